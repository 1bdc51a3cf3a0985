"""Part manifests: what the workers of a cluster note, in files of their own, until it is merged into the manifest.

The images of a run are worked on in blocks. Each attempt at a block writes a part of its own, in a folder of the block
below OUT/.cutstream-parts, so that no two processes write to one file. A part on a disk is whole up to its last line
whenever its writer dies; one in an object store is written at the end of its block.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutstream.bulk.manifest import Manifest, parse_line
from cutstream.bulk.storage import LocalStorage, RemoteStorage, Storage

FOLDER = ".cutstream-parts"
_MARK = "run"
_SUFFIX = ".jsonl"


class Parts:
    """The parts of the runs into an OUT.

    Args:
        storage, output: OUT: a storage and the folder in it.
    """

    def __init__(self, storage: Storage, output: str) -> None:
        self._storage = storage
        self._folder = storage.join(output, FOLDER)

    def begin(self) -> None:
        """Leaves a mark, by which workers see that they reach the same OUT. OSError."""
        self._storage.write(self._path(_MARK), b"")

    def can_be_seen(self) -> bool:
        """Whether the mark is there. OSError."""
        return self._storage.facts(self._path(_MARK)) is not None

    @contextlib.contextmanager
    def writing(self, block: int) -> Iterator[Manifest]:
        """A new part for another attempt at a block. OSError."""
        path = self._path(f"{_folder_of(block)}/{uuid.uuid4().hex}{_SUFFIX}")
        if isinstance(self._storage, RemoteStorage):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "part"
                try:
                    with Manifest(file, keep=False) as part:
                        yield part
                finally:
                    self._storage.upload(file, path)
        else:
            with Manifest(Path(path), keep=False) as part:
                yield part

    def lines(self, block: int) -> Iterator[dict[str, Any]]:
        """What earlier attempts at a block noted. OSError."""
        for name in self._names(block):
            yield from self._lines(name)

    def merge(self, manifest: Manifest, block: int | None = None) -> Iterator[dict[str, Any]]:
        """Moves the lines of one block, or of all, to the manifest, one for each image, and gives them. OSError."""
        seen = set()
        for name in self._names(block):
            for line in self._lines(name):
                if line["input"] not in seen:
                    seen.add(line["input"])
                    manifest.append(line)
                    yield line
            self._storage.remove(self._path(name))

    def end(self) -> None:
        """Removes what is left, lines included. OSError."""
        if isinstance(self._storage, LocalStorage):
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        # A bucket may allow no removing, which nobody needs who never ran on a cluster.
        if not self._storage.is_folder(self._folder):
            return
        for name in [*self._names(None), _MARK]:
            self._storage.remove(self._path(name))

    def _names(self, block: int | None) -> list[str]:
        # Only one block's: a large cluster has thousands at work.
        below = "" if block is None else _folder_of(block) + "/"
        folder = self._path(below.rstrip("/")) if below else self._folder
        if not self._storage.is_folder(folder):
            return []
        names = self._storage.walk(folder, lambda _path, _error: None)
        return sorted(below + name for name in names if name.endswith(_SUFFIX))

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        for raw in self._storage.lines(self._path(name)):
            line = parse_line(raw)
            if line is not None:
                yield line

    def _path(self, name: str) -> str:
        return self._storage.join(self._folder, name)


def _folder_of(block: int) -> str:
    return f"{block:08}"
