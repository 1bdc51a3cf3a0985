"""`cutstream-server model add`: a network of somebody's own, by what they say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .build import MODEL_FILE_NAME, MODEL_VERSION, Wrapped, put_into_repository
from .check import Comparison
from .digests import file_digest
from .errors import InterfaceError, UnknownNetworkError
from .interface import Interface
from .progress import Report
from .registry import NAME, load_registry
from .sources import UNKNOWN_LICENCE, Source


def told_interface(like: str | None, told: dict[str, Any]) -> Interface:
    """Return the interface of a network that is like one of the registry, except for what is told of it.

    Args:
        like: a network of the registry; None for a network like none of them.
        told: fields of `Interface` by name; None for those that were not told.

    Raises:
        InterfaceError: something is missing or does not fit.
        UnknownModelNameError: the registry has no such network.
    """
    known = load_registry().entry(like).interface.model_dump() if like else {}
    if told.get("other_sides") is False:
        known.pop("resizes_follow_maps", None)
    values = known | {name: value for name, value in told.items() if value is not None}
    missing = [f"--{name}" for name in ("side", "mean", "std") if name not in values]
    if missing:
        raise InterfaceError(f"{', '.join(missing)} must be told, or --like NAME a network of the registry")
    try:
        return Interface.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, found['loc'])) or 'interface'}: {found['msg']}" for found in error.errors())
        raise InterfaceError("; ".join(problems)) from error


def add_model(
    file: Path,
    name: str,
    repository: Path,
    report: Report,
    *,
    interface: Interface,
    licence: str = UNKNOWN_LICENCE,
    photo: Path | None = None,
) -> Comparison:
    """Wrap a file and put it into the repository, after it has shown that it finds something in a picture.

    Args:
        file: an ONNX network, with its weights inside or beside it.
        name: what it is to be called.
        repository: the folder of models.
        report: told what happens.
        interface: what the network takes and gives.
        licence: of its weights, to be shown to whoever uses it.
        photo: the picture; a drawn one without it.

    Returns:
        How well it agrees with its file, and its mask.

    Raises:
        PreparationError: the name is none or taken, the file is no such network, or the mask is none.
    """
    if not NAME.fullmatch(name):
        raise InterfaceError(f"{name!r} cannot be a name: lower-case letters, digits, dots, underscores and hyphens")
    if (repository / name).exists():
        raise InterfaceError(f"{repository} has a model {name!r}; `cutstream-server model remove {name}` takes it away")
    if not file.is_file():
        raise UnknownNetworkError(f"{file} is no file")
    source = Source(file, file.name, file_digest(file), licence)
    wrapped = Wrapped(source, interface, file.name, "", licence, None)
    model = repository / name / MODEL_VERSION / MODEL_FILE_NAME
    found = put_into_repository(wrapped, model, report, photo=photo, check=True)
    assert found is not None
    report.say(f"wrote {model}")
    return found
