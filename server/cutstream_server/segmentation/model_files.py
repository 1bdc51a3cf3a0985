"""The models on disk: which there are, and whether they are the ones that were built."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from cutstream_server.segmentation.preparation.digests import file_digest
from cutstream_server.segmentation.preparation.record import recorded_digests

logger = logging.getLogger(__name__)

_FILE_NAME, _INT8_FILE_NAME = "model.onnx", "model.xml"


class ModelFileError(Exception):
    """A model file is not the one that was built; the text says which, and what to do."""


def verify_models(repositories: Iterable[Path], models: Iterable[str]) -> None:
    """Compares every version of the models with the SHA-256 that `cutstream-server model build` wrote beside it.

    A model without that record is somebody's own: it is named in the log and used. IS-Net's 176 MB take 0.16 s of
    processor time, and are in the system's cache when Triton reads them.

    Raises:
        ModelFileError: a file was damaged or exchanged since it was built.
    """
    for repository in repositories:
        for model in models:
            for version in sorted((repository / model).glob("[0-9]*")):
                int8 = version / _INT8_FILE_NAME
                _verify(int8 if int8.exists() else version / _FILE_NAME)


def models_in(repositories: tuple[Path, ...]) -> tuple[str, ...]:
    """Finds the models that are built: folders with a configuration and a version."""
    return tuple(
        sorted(
            config.parent.name
            for repository in repositories
            for config in repository.glob("*/config.pbtxt")
            if any(config.parent.glob("[0-9]*/*"))
        )
    )


def _verify(model: Path) -> None:
    remedy = f"`cutstream-server model build {model.parent.parent.name}` makes it again"
    try:
        recorded = recorded_digests(model)
        found = {file: file_digest(file) for file in recorded}
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{model} cannot be checked: {error}; {remedy}") from error
    if not recorded:
        logger.info("%s has no recorded hash; it is used as it is", model)
    for file, digest in recorded.items():
        if found[file] != digest:
            text = f"{file} is not the file that was built: its SHA-256 is {found[file].value}, not {digest.value}"
            raise ModelFileError(f"{text}; {remedy}")
        logger.info("%s has the recorded SHA-256 %s", file, digest.value)
