"""`manifest.jsonl`: one line of JSON for each image, in the order of completion.

| field | meaning |
|---|---|
| input | absolute path or URL of the image |
| output | path of the cutout relative to OUT, with "/" between; null without one |
| status | "ok" or "error" |
| reason, message, metadata | of an error, see `CutoutError` |
| width_px, height_px, crop | of the cutout: `crop` is left_px, top_px, width_px, height_px in the source |
| metrics | `Metrics` without nesting: centering_score, foreground_box_left_px, ... |
| timings | the server's stages (decode_seconds, ..., total_seconds), and client_seconds from reading to answer |
| size, mtime | of the image when read: bytes; nanoseconds since 1970 or a store's text; null when it was not there |
| options | hash of the options, 16 hexadecimal digits |
| output_bytes, sha256 | of the cutout's file |

Each line is handed to the system as a whole before the next, so that a crash of the client leaves at most one torn
line at the end, which the next run takes off. An image that is done again gets a second line: the last one counts, and
`compact` removes the others.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from cutstream.bulk.compact import CompactMap, fingerprint, lasting_fingerprint
from cutstream.bulk.storage import FileFacts
from cutstream.options import Options, options_to_proto

NAME = "manifest.jsonl"
OK, ERROR = "ok", "error"
_HASH_DIGITS = 16
_TAIL_BYTES = 1 << 16
_STATE_KEYS = frozenset({"input", "status", "size", "mtime", "options", "output", "output_bytes"})


def options_hash(options: Options) -> str:
    """Tells options apart; the same for the same options in any order."""
    message = options_to_proto(options).SerializeToString(deterministic=True)
    return sha256(message).hexdigest()[:_HASH_DIGITS]


@dataclass(frozen=True)
class State:
    """What has to be the same for an image to count as done."""

    facts: FileFacts | None
    """Of the source."""
    options: str
    """Hash of the options."""
    output: str | None
    """Where the cutout is, and how long; None for an image that failed, or whose cutout is not kept."""
    output_bytes: int | None
    status: str = OK

    def fingerprint(self) -> int:
        """64 bits that hold for every process: workers of a cluster compare them."""
        size, mtime = (None, None) if self.facts is None else (self.facts.size, self.facts.mtime)
        return lasting_fingerprint(
            f"{self.status}\0{size}\0{mtime}\0{self.options}\0{self.output}\0{self.output_bytes}"
        )


class Done:
    """What a manifest says is done: 27 bytes for each of ten million images."""

    def __init__(self) -> None:
        self._states = CompactMap("Q")
        self.needs_compacting = False
        """Whether the manifest has lines that do not count."""

    def __len__(self) -> int:
        return len(self._states)

    def add(self, line: Mapping[str, Any]) -> None:
        """Notes a line; a later one of the same image replaces it."""
        facts = None if line["size"] is None else FileFacts(line["size"], line["mtime"])
        output, output_bytes = (line["output"], line["output_bytes"]) if line["status"] == OK else (None, None)
        state = State(facts, line["options"], output, output_bytes, line["status"])
        if not self._states.set(fingerprint(line["input"]), state.fingerprint()):
            self.needs_compacting = True

    def add_state(self, path: str, state: int) -> None:
        """Notes what `state_of` gave in another process."""
        self._states.set(fingerprint(path), state)

    def state_of(self, path: str) -> int | None:
        """The fingerprint of the state that the last line about the image has; None without a line."""
        return self._states.get(fingerprint(path))

    def knows(self, path: str) -> bool:
        """Whether there is any line about the image."""
        return self.state_of(path) is not None

    def says(self, path: str, state: State) -> bool:
        """Whether the last line about the image is of this state."""
        return self.state_of(path) == state.fingerprint()


def read_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of a manifest; None for one that is damaged, which a crash of the machine may leave.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        for line in file:
            yield parse_line(line)


class OtherSourceError(Exception):
    """A manifest has images of another SRC, whose cutouts this run could overwrite; the text is one of them."""


def read_done(path: Path, base: str) -> Done:
    """What a manifest says of the images below `base`.

    Raises:
        OtherSourceError: it has images that lie elsewhere.
        OSError: it cannot be read.
    """
    done = Done()
    start = base.rstrip("/" + os.sep)
    for line in read_lines(path):
        if line is None:
            done.needs_compacting = True
            continue
        name = str(line["input"])
        if not name.startswith((start + "/", start + os.sep)):
            raise OtherSourceError(name)
        done.add(line)
    return done


def compact(path: Path) -> None:
    """Keeps the last line of each image, in order, and no damaged ones; replaces the file as a whole.

    Raises:
        OSError: it cannot be written; the old one is then as it was.
    """
    last = CompactMap("Q")
    for number, line in enumerate(read_lines(path)):
        if line is not None:
            last.set(fingerprint(line["input"]), number)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with path.open("rb") as old, temporary.open("wb") as new:
            for number, raw in enumerate(old):
                line = parse_line(raw)
                if line is not None and last.get(fingerprint(line["input"])) == number:
                    new.write(raw)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Manifest:
    """A manifest that is being written; several threads may append.

    Raises:
        OSError: it cannot be opened; later, a line cannot be written, and then the file ends with the line before.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        """Opens for appending to what is there if `keep`, else from the beginning."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: each line goes to the system in one call. Opened as it is: it may be another run's.
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b", buffering=0)
        try:
            _lock(self._file, path)
        except OSError:
            self._file.close()
            raise
        self._end = _end_of_last_line(self._file) if keep else 0
        self._file.truncate(self._end)
        self._file.seek(self._end)
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether there is no line yet."""
        return self._end == 0

    def append(self, line: Mapping[str, object]) -> None:
        """Adds a line; when this returns, a crash of the program cannot lose it."""
        data = _encoded(line)
        with self._lock:
            try:
                written = 0
                # A disk that fills takes a part, and says why at the next call.
                while written < len(data):
                    written += self._file.write(data[written:])
            except OSError:
                self._file.truncate(self._end)
                self._file.seek(self._end)
                raise
            self._end += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _lock(file: BinaryIO, path: Path) -> None:
    """Keeps other runs of this machine out until the file is closed; OSError when one is writing there."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(error.errno, "another run is writing there") from error
    except OSError:
        return  # a file system without locks, such as some network shares
    # Compacting puts another file in its place, which a run that ended since this one was opened may have done.
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise OSError(errno.EBUSY, "another run has just written there; try again")


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """One line; None when it is damaged."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and line.keys() >= _STATE_KEYS else None


def _encoded(line: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is no UTF-8: escaped it survives
        return json.dumps(line).encode() + b"\n"


def _end_of_last_line(file: BinaryIO) -> int:
    """The offset behind the last line end; 0 without any."""
    start = file.seek(0, os.SEEK_END)
    while start > 0:
        start, end = max(0, start - _TAIL_BYTES), start
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0
