"""Hashes of files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .errors import HashMismatchError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Digest:
    """A pinned hash: the name of an algorithm of hashlib, and its value in hexadecimal digits."""

    algorithm: str
    value: str

    def matches(self, path: Path) -> bool:
        """Tell whether the file is there and has this hash."""
        return path.is_file() and file_digest(path, self.algorithm).value == self.value


def file_digest(path: Path, algorithm: str = "sha256") -> Digest:
    """Return the hash of a file's content."""
    hasher = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return Digest(algorithm, hasher.hexdigest())


def require_digest(path: Path, expected: Digest) -> None:
    """Delete the file and raise HashMismatchError when it is not the one that is pinned."""
    found = file_digest(path, expected.algorithm)
    if found != expected:
        path.unlink()
        raise HashMismatchError(
            f"{path.name} has the {found.algorithm} {found.value} instead of {expected.value}; it was deleted"
        )
