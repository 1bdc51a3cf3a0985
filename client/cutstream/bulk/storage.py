"""Where images are read from and cutouts go to: this machine's files, or whatever fsspec reaches."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# These replace an object as a whole or not at all, and renaming would copy it a second time.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"})
# What the stores call the version or the time of an object, the most telling first.
_VERSION_KEYS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
_FILE_URL = "file://"
_TEMPORARY_DIGITS = 16

OnUnreadable = Callable[[str, Exception], None]
"""Told the folder that could not be listed, and why."""


class StorageError(Exception):
    """The place cannot be used: fsspec or its driver is missing, or the address is wrong."""


@dataclass(frozen=True)
class FileFacts:
    """By what a file is known to be the same as before."""

    size: int
    """In bytes."""
    mtime: int | str
    """Nanoseconds since 1970; of an object in a store the text by which it names the version or time."""


class Storage(Protocol):
    """Files by path. All methods may be called by several threads, and raise OSError for what cannot be done."""

    io_threads: int
    """How many reads or writes at once are worth it."""

    def join(self, folder: str, relative: str) -> str:
        """The path of a file below a folder."""

    def name(self, path: str) -> str:
        """The path as it is written for people and in the manifest: absolute, or an address."""

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder that exists."""

    def walk(self, folder: str, on_unreadable: OnUnreadable) -> Iterator[str]:
        """All files below a folder, in no order, relative to it with "/" between; links to folders are not followed."""

    def facts(self, path: str) -> FileFacts | None:
        """Size and time of a file; None when there is none."""

    def read(self, path: str) -> bytes:
        """The whole file."""

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file or pipe, one after another."""

    def write(self, path: str, data: bytes) -> None:
        """Puts a file there, as a whole or not at all; makes its folders."""

    def remove(self, path: str) -> None:
        """Removes a file, if there is one."""


def open_storage(place: str) -> tuple[Storage, str]:
    """The storage of a path or URL, and the path in it; StorageError when that is not to be had."""
    if place.startswith(_FILE_URL):
        return LocalStorage(), str(Path(place.removeprefix(_FILE_URL)).absolute())
    if "://" not in place:
        return LocalStorage(), os.path.abspath(place)  # noqa: PTH100 - also takes the ".." out, which Path keeps
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise StorageError(f"{place} needs fsspec: pip install fsspec, and the driver of the store") from error
    try:
        filesystem, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError, OSError) as error:
        raise StorageError(f"{place}: {error}") from error
    return RemoteStorage(filesystem, place.partition("://")[0]), path


class LocalStorage:
    """Files of this machine."""

    # The system's cache reads ahead and writes behind; more threads only add to the work.
    io_threads = 1

    def join(self, folder: str, relative: str) -> str:
        """See `Storage`."""
        return os.path.join(folder, *relative.split("/"))  # noqa: PTH118 - a million times, and text is what is wanted

    def name(self, path: str) -> str:
        """See `Storage`."""
        return path

    def is_folder(self, path: str) -> bool:
        """See `Storage`."""
        return Path(path).is_dir()

    def walk(self, folder: str, on_unreadable: OnUnreadable) -> Iterator[str]:
        """See `Storage`."""
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            try:
                # Not collected into a list: a folder may hold millions.
                with os.scandir(self.join(folder, prefix) if prefix else folder) as entries:
                    for entry in entries:
                        relative = prefix + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(relative + "/")
                        # A link that leads nowhere is an image that is missing; pipes and devices are none.
                        elif entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()):
                            yield relative
            except OSError as error:
                on_unreadable(self.join(folder, prefix.rstrip("/")), error)

    def facts(self, path: str) -> FileFacts | None:
        """See `Storage`."""
        try:
            status = os.stat(path)  # noqa: PTH116 - as in join
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileFacts(status.st_size, status.st_mtime_ns)

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as in join
            # Reading a pipe could wait for ever.
            raise OSError(errno.EINVAL, "is no regular file", path)
        return Path(path).read_bytes()

    def lines(self, path: str) -> Iterator[bytes]:
        """See `Storage`."""
        with Path(path).open("rb") as file:
            yield from file

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        target = Path(path)
        temporary = target.with_name(_temporary_name(target.name))
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
            temporary.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def remove(self, path: str) -> None:
        """See `Storage`."""
        Path(path).unlink(missing_ok=True)


class RemoteStorage:
    """Whatever fsspec reaches; credentials and settings are fsspec's business."""

    # An object store answers in some 50 ms, however many ask.
    io_threads = 16

    def __init__(self, filesystem: Any, protocol: str) -> None:
        self._fs = filesystem
        self._replaces_as_a_whole = protocol in _OBJECT_STORES

    def join(self, folder: str, relative: str) -> str:
        """See `Storage`."""
        return f"{folder.rstrip('/')}/{relative}"

    def name(self, path: str) -> str:
        """See `Storage`."""
        return str(self._fs.unstrip_protocol(path))

    def is_folder(self, path: str) -> bool:
        """See `Storage`."""
        with _as_os_error():
            return bool(self._fs.isdir(path))

    def walk(self, folder: str, on_unreadable: OnUnreadable) -> Iterator[str]:
        """See `Storage`."""
        start = folder.rstrip("/") + "/"
        # The folder's name is in the driver's message; fsspec passes the error alone.
        for here, _, files in self._fs.walk(folder, on_error=lambda error: on_unreadable(self.name(folder), error)):
            for name in filter(None, files):
                yield f"{here.rstrip('/')}/{name}".removeprefix(start)

    def facts(self, path: str) -> FileFacts | None:
        """See `Storage`."""
        try:
            with _as_os_error():
                info = self._fs.info(path)
        except FileNotFoundError:
            return None
        version = next((info[key] for key in _VERSION_KEYS if info.get(key) is not None), "")
        return FileFacts(info["size"] or 0, str(version))

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        with _as_os_error():
            return bytes(self._fs.cat_file(path))

    def lines(self, path: str) -> Iterator[bytes]:
        """See `Storage`."""
        with _as_os_error(), self._fs.open(path, "rb") as file:
            yield from file

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        self._put(path, lambda place: self._fs.pipe_file(place, data))

    def remove(self, path: str) -> None:
        """See `Storage`."""
        with contextlib.suppress(FileNotFoundError), _as_os_error():
            self._fs.rm_file(path)

    def upload(self, file: Path, path: str) -> None:
        """Puts a copy of a file of this machine there, in parts, as a whole or not at all."""
        self._put(path, lambda place: self._fs.put_file(str(file), place))

    def download(self, path: str, file: Path) -> None:
        """Replaces a file of this machine by a copy, in parts, as a whole or not at all."""
        temporary = file.with_name(_temporary_name(file.name))
        try:
            with _as_os_error():
                self._fs.get_file(path, str(temporary))
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _put(self, path: str, put: Callable[[str], object]) -> None:
        with _as_os_error():
            if self._replaces_as_a_whole:
                put(path)
                return
            folder, _, name = path.rpartition("/")
            temporary = f"{folder}/{_temporary_name(name)}"
            self._fs.makedirs(folder, exist_ok=True)
            put(temporary)
            self._fs.mv(temporary, path)


def _temporary_name(name: str) -> str:
    """The same for the same file, so that what a crash leaves is overwritten; short, whatever the name's length."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_TEMPORARY_DIGITS]
    return f".{digest}.part"


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Drivers raise what they like; here a failure to read or write is an OSError."""
    try:
        yield
    except FileNotFoundError as error:
        if error.strerror:
            raise
        # fsspec's has the path alone for a message.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(error)) from error
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
