"""A small file beside a built model that says what it was built from, so that a second build has nothing to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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
    """

    recipe: int
    source: str
    source_sha256: str
    licence: str
    model_sha256: str


def write_record(model: Path, record: BuildRecord) -> None:
    """Write the record beside the model."""
    path = model.with_name(_FILE_NAME)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(record), indent=2) + "\n")
    part.replace(path)


def recorded_digest(model: Path) -> Digest | None:
    """Return the hash that the model had when it was built, None when nothing was recorded.

    Raises:
        ValueError: the record is damaged.
    """
    path = model.with_name(_FILE_NAME)
    if not path.exists():
        return None
    try:
        return Digest("sha256", str(json.loads(path.read_text())["model_sha256"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has no model_sha256") from error


def valid_record(model: Path, recipe: int) -> BuildRecord | None:
    """Return the model's record when the model is whole and of this recipe, None otherwise."""
    try:
        record = BuildRecord(**json.loads(model.with_name(_FILE_NAME).read_text()))
        whole = file_digest(model) == Digest("sha256", record.model_sha256)
    except (OSError, ValueError, TypeError):  # none yet, or cut off, or of an older form: it is built again
        return None
    return record if whole and record.recipe == recipe else None
