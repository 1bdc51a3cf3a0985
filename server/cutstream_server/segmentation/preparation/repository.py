"""The models that lie in a repository: what each was built from, whether it is whole, and how it is taken away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .build import MODEL_FILE_NAME
from .check import drawn_picture, load_picture, run_served, save_mask
from .digests import file_digest
from .errors import CheckFailedError, UnknownModelNameError
from .record import BuildRecord, read_record, recorded_digests
from .registry import NAME

CONFIG_FILE_NAME = "config.pbtxt"


@dataclass(frozen=True)
class BuiltModel:
    """One version of a model in a repository.

    Attributes:
        name: its folder's.
        version: the number of its folder.
        file: the network.
        record: what it was built from; None for a model that was not built here.
    """

    name: str
    version: str
    file: Path
    record: BuildRecord | None


def built_models(repository: Path) -> Sequence[BuiltModel]:
    """Return every version of every model, by name and version."""
    files = [
        file
        for file in repository.glob(f"*/[0-9]*/{MODEL_FILE_NAME}")
        if (file.parents[1] / CONFIG_FILE_NAME).is_file() and NAME.fullmatch(file.parents[1].name)
    ]
    files.sort(key=lambda file: (file.parents[1].name, int(file.parent.name)))
    return [BuiltModel(file.parents[1].name, file.parent.name, file, read_record(file)) for file in files]


def versions_of(name: str, repository: Path) -> Sequence[BuiltModel]:
    """Return the versions of one model.

    Raises:
        UnknownModelNameError: it is not there.
    """
    found = built_models(repository)
    versions = [model for model in found if model.name == name]
    if not versions:
        there = ", ".join(dict.fromkeys(model.name for model in found)) or "none"
        raise UnknownModelNameError(f"{repository} has no model {name!r}; it has {there}")
    return versions


def remove_model(name: str, repository: Path) -> Path:
    """Take a model with all its versions away; return where it was.

    It goes at once and whole, so that a server that watches the repository sees no half of it.

    Raises:
        UnknownModelNameError: it is not there.
    """
    folder = versions_of(name, repository)[0].file.parents[1]
    with tempfile.TemporaryDirectory(prefix=".removed-", dir=repository) as scratch:
        shutil.move(folder, Path(scratch) / name)
    return folder


def check_model(model: BuiltModel, photo: Path | None, mask: Path | None) -> str:
    """Compare a model's files with their recorded hashes and run it on a picture; return what was found, in words.

    Args:
        model: the model.
        photo: the picture; a drawn one without it.
        mask: where the mask is written as a picture.

    Raises:
        CheckFailedError: a file is not the one that was built, or the network does not run or gives no mask.
    """
    try:
        digests = recorded_digests(model.file)
    except ValueError as error:
        raise CheckFailedError(str(error)) from error
    for file, digest in digests.items():
        if not digest.matches(file):
            found = file_digest(file).value if file.is_file() else "missing"
            raise CheckFailedError(f"{file} is not the file that was built: its SHA-256 is {found}, not {digest.value}")
    side = _side_of(model)
    alpha = run_served(model.file, load_picture(photo, side) if photo else drawn_picture(side))
    if mask is not None:
        save_mask(alpha, mask)
    files = "as it was built" if digests else "no recorded hash"
    return f"{files}; it finds {alpha.mean():.0%} object at {side} x {side}"


def _side_of(model: BuiltModel) -> int:
    """Return the side that the network was made for; 1024 where nothing is recorded."""
    interface = model.record.interface if model.record else None
    return int(interface["side"]) if interface else 1024
