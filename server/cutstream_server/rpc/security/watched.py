"""Files that are read again when they change, so that certificates and tokens are replaced without a restart."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SecurityFileError(Exception):
    """A file of certificates, keys or tokens cannot be used; one line that begins with the name of its variable."""


class WatchedFiles(Generic[T]):
    """What some files say. A state of them that cannot be used, such as a half-written pair, leaves the last good one.

    Args:
        paths: the files; links are followed, as those that Kubernetes exchanges.
        load: reads them all.

    Raises:
        SecurityFileError: they cannot be used now, when there is no earlier state to keep.
    """

    def __init__(self, paths: tuple[Path, ...], load: Callable[[], T]) -> None:
        self._paths = paths
        self._load = load
        self._seen = self._signature()
        self._complaint = ""
        self.content = load()

    def refresh(self) -> bool:
        """Reads the files when they are not those of the last good state. Returns whether there is a new one."""
        # Taken before the files are read: what changes in between is seen the next time.
        signature = self._signature()
        if signature == self._seen:
            return False
        try:
            self.content = self._load()
        except SecurityFileError as error:
            # Tried again each time, for a certificate may only not be valid yet; but told once.
            if str(error) != self._complaint:
                logger.error("%s; going on with what it said before", error)  # noqa: TRY400 - the line says it all
            self._complaint = str(error)
            return False
        self._seen = signature
        self._complaint = ""
        return True

    def _signature(self) -> tuple[object, ...]:
        return tuple(_signature_of(path) for path in self._paths)


def _signature_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    # The time of the inode's change moves with permissions too, and cannot be set back as that of the content can.
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def read_file(variable: str, path: Path, *, private: bool = False) -> bytes:
    """Reads a file that a setting names. Warns when a private one is open to users other than its owner and group.

    Raises:
        SecurityFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read()
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise SecurityFileError(f"{variable}={path}: {error.strerror}") from error
    if private and mode & stat.S_IRWXO:
        logger.warning("%s=%s is open to every user (mode %03o); `chmod o=` closes it", variable, path, mode)
    return data
