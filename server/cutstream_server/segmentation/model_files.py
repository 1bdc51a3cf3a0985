"""Checks at every start that the models on disk are the ones that were built."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from cutstream_server.segmentation.preparation.digests import file_digest
from cutstream_server.segmentation.preparation.record import recorded_digest

logger = logging.getLogger(__name__)

_FILE_NAME = "model.onnx"
_REMEDY = "`cutstream-server model build` makes it again"


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
                _verify(version / _FILE_NAME)


def _verify(file: Path) -> None:
    try:
        recorded = recorded_digest(file)
        if recorded is None:
            logger.info("%s has no recorded hash; it is used as it is", file)
            return
        found = file_digest(file)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{file} cannot be checked: {error}; {_REMEDY}") from error
    if found != recorded:
        text = f"{file} is not the file that was built: its SHA-256 is {found.value}, not {recorded.value}; {_REMEDY}"
        raise ModelFileError(text)
    logger.info("%s has the recorded SHA-256 %s", file, found.value)
