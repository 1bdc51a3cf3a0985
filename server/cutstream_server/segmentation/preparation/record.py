"""A small file beside a built model that says what it was built from, so that a second build has nothing to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .digests import Digest, file_digest

_FILE_NAME = "build.json"


@dataclass(frozen=True)
class BuildRecord:
    """What a build came from and what it gave; the hashes are SHA-256.

    Attributes:
        recipe: the number of the surgery's version.
        source: the source's name.
        source_sha256: of the source network.
        licence: of the weights.
        model_sha256: of the built model.
        weights_sha256: of the file with its weights, where that is another one.
        interface: what the source network takes and gives, as it was wrapped.
    """

    recipe: int
    source: str
    source_sha256: str
    licence: str
    model_sha256: str
    weights_sha256: str | None = None
    interface: Mapping[str, Any] | None = None


def write_record(model: Path, record: BuildRecord) -> None:
    """Write the record beside the model."""
    path = model.with_name(_FILE_NAME)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(record), indent=2) + "\n")
    part.replace(path)


def read_record(model: Path) -> BuildRecord | None:
    """Return the model's record, None when there is none or one of another form."""
    try:
        return BuildRecord(**json.loads(model.with_name(_FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def recorded_digests(model: Path) -> dict[Path, Digest]:
    """Return the hash of each file of the model as it was built, nothing when nothing was recorded.

    Raises:
        ValueError: the record is damaged.
    """
    path = model.with_name(_FILE_NAME)
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text())
        digests = {model: Digest("sha256", str(record["model_sha256"]))}
        if record.get("weights_sha256") is not None:
            digests[weights_file(model)] = Digest("sha256", str(record["weights_sha256"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has no model_sha256") from error
    return digests


def weights_file(model: Path) -> Path:
    """Return where a model too large for one file has its weights, as OpenVINO's own form always has."""
    return model.with_suffix(".bin") if model.suffix == ".xml" else model.with_name(f"{model.name}.data")


def valid_record(model: Path, recipe: int) -> BuildRecord | None:
    """Return the model's record when the model is whole and of this recipe, None otherwise."""
    record = read_record(model)
    if record is None or record.recipe != recipe:
        return None
    try:
        whole = all(file_digest(file) == digest for file, digest in recorded_digests(model).items())
    except (OSError, ValueError):
        return None
    return record if whole else None
