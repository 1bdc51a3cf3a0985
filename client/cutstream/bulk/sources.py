"""What SRC names: the images of a run, listed before it begins."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from types import TracebackType
from typing import Self

from cutstream.bulk.naming import Names, output_name
from cutstream.bulk.storage import Storage, open_storage

STANDARD_INPUT = "-"
# Of the formats that servers read, cutstream_server/imaging/formats.py; --include takes any others.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif"}
)
# File names are bytes; those that are no UTF-8 must come through unchanged.
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


class SourceError(Exception):
    """SRC, or an entry of its list, cannot be used; nothing has been done."""


@dataclass(frozen=True)
class Job:
    """One image of the run."""

    number: int
    """From 0, in the order of the list."""
    relative: str
    """Path below the folder or base, with "/" between."""
    path: str
    """Path in the source's storage."""
    output: str
    """Path below OUT, with "/" between."""


@dataclass(frozen=True)
class Listing:
    """Where the images are, and how they are found."""

    storage: Storage
    base: str
    """The folder that relative paths begin at."""
    names: Iterable[str]
    unreadable: list[tuple[str, Exception]]
    """Folders that could not be listed, as far as `names` has been read."""


class Filter:
    """--include and --exclude: patterns of whole relative paths if they have a "/", of file names if not.

    `*` also matches "/". Without --include every file with the suffix of an image is meant, or, of a list, every entry.
    """

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _matcher(include)
        self._exclude = _matcher(exclude)

    def takes(self, relative: str, *, is_listed: bool) -> bool:
        """Whether the image belongs to the run."""
        if self._exclude is not None and self._exclude(relative):
            return False
        if self._include is not None:
            return self._include(relative)
        return is_listed or posixpath.splitext(relative)[1].lower() in IMAGE_SUFFIXES


def list_sources(source: str, base: str | None, wanted: Filter, output: tuple[Storage, str]) -> Listing:
    """The images of SRC: a folder, a text file with a path or URL on each line, or the same on standard input.

    Entries of a list are relative to `base` (default: the current folder), and must lie below it.

    Raises:
        SourceError, StorageError: SRC is nothing of this, or cannot be read; of entries, when they are read.
    """
    if source != STANDARD_INPUT:
        storage, path = open_storage(source)
        try:
            if storage.is_folder(path):
                if base is not None:
                    raise SourceError("--base belongs to lists: what is in a folder is relative to that folder")
                return _list_folder(storage, path, wanted, output)
        except OSError as error:
            raise SourceError(f"cannot read {source}: {error.strerror or error}") from error
        if Path(source).suffix.lower() in IMAGE_SUFFIXES:
            raise SourceError(f"{source} is an image: `cutstream remove` takes single images")
        lines: Iterable[bytes] = _lines_of(source, storage, path)
    else:
        lines = sys.stdin.buffer
    base_storage, base_path = open_storage(base if base is not None else ".")
    _check_apart(base_storage.name(base_path), output)
    names = (name for name in _entries(lines, base_storage, base_path, output) if wanted.takes(name, is_listed=True))
    return Listing(base_storage, base_path, names, [])


class Plan:
    """The jobs of a run: how many, and one after another, as often as wanted.

    The list is kept on disk, in the system's folder for temporary files; in memory are one byte for each image, and
    while the names are decided what `Names` takes.

    Raises:
        SourceError: an entry of the list cannot be used, or the list cannot be kept.
    """

    def __init__(self, listing: Listing, suffix: str, on_listed: Callable[[int], None]) -> None:
        self._listing = listing
        self._suffix = suffix
        self.duplicates = 0
        self._whole = bytearray()
        try:
            # One path a line, NUL for its end: a file name may hold line ends.
            self._spool = tempfile.TemporaryFile("w+", encoding=_ENCODING, errors=_ERRORS, newline="\n")  # noqa: SIM115
        except OSError as error:
            raise _cannot_keep(error) from error
        try:
            self._decide(on_listed)
        except OSError as error:
            self.close()
            raise _cannot_keep(error) from error
        except BaseException:
            self.close()
            raise

    def _decide(self, on_listed: Callable[[int], None]) -> None:
        names = Names()
        for count, relative in enumerate(self._listing.names):
            if names.add(relative):
                self._spool.write(relative + "\0\n")
            else:
                self.duplicates += 1
            on_listed(count)
        for relative in self._read():
            names.compare(relative)
        for relative in self._read():
            self._whole.append(names.is_shared(relative))

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Job]:
        storage, base = self._listing.storage, self._listing.base
        for number, relative in enumerate(self._read()):
            output = output_name(relative, self._suffix, whole=bool(self._whole[number]))
            yield Job(number, relative, storage.join(base, relative), output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the list from the disk."""
        # What a full disk did not take is tried once more, and not wanted.
        with contextlib.suppress(OSError):
            self._spool.close()

    def _read(self) -> Iterator[str]:
        self._spool.seek(0)
        parts: list[str] = []
        for line in self._spool:
            parts.append(line)
            if line.endswith("\0\n"):
                yield "".join(parts).removesuffix("\0\n")
                parts.clear()


def _cannot_keep(error: OSError) -> SourceError:
    return SourceError(
        f"cannot keep the list of images in the folder for temporary files: {error.strerror or error}; TMPDIR names "
        "another"
    )


def _lines_of(source: str, storage: Storage, path: str) -> Iterator[bytes]:
    try:
        yield from storage.lines(path)
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror or error}") from error


def _list_folder(storage: Storage, folder: str, wanted: Filter, output: tuple[Storage, str]) -> Listing:
    _check_apart(storage.name(folder), output)
    unreadable: list[tuple[str, Exception]] = []
    own = _below(storage.name(folder), output[0].name(output[1]))

    def names() -> Iterator[str]:
        for relative in storage.walk(folder, lambda path, error: unreadable.append((path, error))):
            # The cutouts of an OUT inside SRC are no sources.
            inside_output = own is not None and relative.startswith(own + "/")
            if not inside_output and wanted.takes(relative, is_listed=False):
                yield relative

    return Listing(storage, folder, names(), unreadable)


def _entries(lines: Iterable[bytes], storage: Storage, base: str, output: tuple[Storage, str]) -> Iterator[str]:
    base_name, output_path = storage.name(base), output[0].name(output[1])
    for number, line in enumerate(lines, 1):
        entry = line.rstrip(b"\r\n").decode(_ENCODING, _ERRORS)
        if not entry:
            continue
        if "\0" in entry:
            raise SourceError(f"line {number} of the list is no path: a list is text, with one path on each line")
        relative = _relative(entry, base_name)
        if relative is None:
            raise SourceError(
                f"line {number} of the list, {entry}, does not lie below {base_name}: say where with --base"
            )
        if _below(output_path, storage.name(storage.join(base, relative))) is not None:
            raise SourceError(f"line {number} of the list, {entry}, lies in OUT, where cutouts could overwrite it")
        yield relative


def _relative(entry: str, base: str) -> str | None:
    """The entry's path below the base; None when it lies elsewhere."""
    if "://" in entry or Path(entry).is_absolute():
        return _below(base, entry)
    joined = posixpath.normpath(entry.replace(os.sep, "/"))
    return None if joined in {".", ".."} or joined.startswith("../") else joined


def _below(folder: str, path: str) -> str | None:
    """`path` relative to `folder`, both absolute or URLs; None unless it lies below."""
    scheme, _, folder_path = folder.rpartition("://")
    other_scheme, _, other_path = path.rpartition("://")
    start = posixpath.normpath("/" + folder_path.replace(os.sep, "/").lstrip("/")).rstrip("/") + "/"
    end = posixpath.normpath("/" + other_path.replace(os.sep, "/").lstrip("/"))
    if scheme != other_scheme or not end.startswith(start) or end == start:
        return None
    return end.removeprefix(start)


def _check_apart(base: str, output: tuple[Storage, str]) -> None:
    place = output[0].name(output[1])
    # A link to the images' folder is that folder.
    real_place, real_base = (name if "://" in name else os.path.realpath(name) for name in (place, base))
    if real_place == real_base or _below(real_place, real_base) is not None:
        raise SourceError(f"OUT is {place}, which holds the images of {base}: cutouts could overwrite them")


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    if not patterns:
        return None
    of_names = [re.compile(translate(pattern)) for pattern in patterns if "/" not in pattern]
    of_paths = [re.compile(translate(pattern)) for pattern in patterns if "/" in pattern]

    def matches(relative: str) -> bool:
        name = relative.rpartition("/")[2]
        return any(p.match(name) for p in of_names) or any(p.match(relative) for p in of_paths)

    return matches
