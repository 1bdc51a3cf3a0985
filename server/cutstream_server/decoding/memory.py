"""Memory that the service and a decoder share: files without a name, so that nothing is left behind by anyone's end."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

ALIGNMENT_BYTES: Final = 64
# Memory that is used again spares its pages, a quarter of a JPEG's time; above this size a process's own memory would
# come anew from the kernel each time as well (M_MMAP_THRESHOLD_MAX of glibc).
KEPT_BYTES: Final = 32 << 20


class SharedMemory:
    """A file in memory and this process's view of it. It only grows: shrinking it would kill whoever reads it.

    Args:
        file: its descriptor, owned from here on.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self._view: Bytes = np.empty(0, np.uint8)

    @classmethod
    def create(cls) -> SharedMemory:
        """Make an empty one that nobody can shrink, a decoder that was taken over included."""
        file = os.memfd_create("cutstream-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(file)

    def view(self, size: int) -> Bytes:
        """Give its first bytes; the arrays given before stay what they were, if they are shorter than these."""
        if size > self._view.size:
            if self.file_size < size:
                os.ftruncate(self.file, size)
            self._view = np.frombuffer(mmap.mmap(self.file, size), np.uint8)
        # An array of its own for each call: it lives as long as anything made of it, and the mapping as well.
        return np.frombuffer(self._view.data, np.uint8, size)

    @property
    def file_size(self) -> int:
        """Bytes of the file: the most that either side has had of it."""
        return os.fstat(self.file).st_size

    def close(self) -> None:
        """Let go of the file; what was viewed stays until its last array is gone."""
        os.close(self.file)
        self._view = np.empty(0, np.uint8)


def aligned(size: int) -> int:
    """Round up to where the next array may begin."""
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
