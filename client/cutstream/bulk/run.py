"""The run itself: every job is read, streamed, written and noted, exactly once."""

from __future__ import annotations

import contextlib
import errno
import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cutstream.bulk.manifest import ERROR, OK, Done, Manifest, State
from cutstream.cli_output import to_json
from cutstream.errors import (
    IMAGE_TOO_LARGE,
    PERMISSION_DENIED,
    SERVER_UNREACHABLE,
    CutoutError,
    source_unreadable,
)
from cutstream.images import StreamImage, default_id
from cutstream.results import Cutout, Metrics

if TYPE_CHECKING:
    from cutstream.bulk.progress import RunProgress
    from cutstream.bulk.sources import Job
    from cutstream.bulk.storage import FileFacts, Storage
    from cutstream.client import Client
    from cutstream.options import Options

T = TypeVar("T")
U = TypeVar("U")

# With these no other cutout can be written either.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Of the metrics: what the manifest has elsewhere.
_NOT_MEASURED = ("durations", "effective_options")


class StoppedError(Exception):
    """The run cannot go on. What was finished is kept and noted."""


@dataclass(frozen=True)
class RunSettings:
    """What the caller decided about a run."""

    options: Options
    options_hash: str
    window: int | None
    streams: int | None
    image_timeout_seconds: float
    retry_failed: bool
    max_image_bytes: float
    """What the server takes; larger ones are not read."""


@dataclass(frozen=True)
class _Taken:
    """An image on its way."""

    job: Job
    facts: FileFacts | None
    started: float


class BulkRun:
    """One run over a plan.

    Args:
        client: removes the backgrounds.
        source: where jobs are read.
        target, output: where cutouts go: a storage and the folder in it.
        done: what an earlier run did.
        manifest: open for appending.
    """

    def __init__(
        self,
        client: Client,
        source: Storage,
        target: Storage,
        output: str,
        done: Done,
        manifest: Manifest,
        settings: RunSettings,
        progress: RunProgress,
    ) -> None:
        self._client = client
        self._source = source
        self._target = target
        self._output = output
        self._done = done
        self._manifest = manifest
        self._settings = settings
        self._progress = progress
        self._keeps_cutouts = settings.options.get("content") != "metrics_only"
        self._on_the_way: dict[str, _Taken] = {}
        self._stopping = threading.Event()
        self._unreachable: CutoutError | None = None
        self.reasons: Counter[str] = Counter()
        """How many images failed for which reason."""
        self.needs_compacting = done.needs_compacting
        """Whether an image was done again that the manifest knew already."""

    def stop(self) -> None:
        """Takes no more images; what is on its way is finished and written."""
        self._stopping.set()

    @property
    def stopping(self) -> str:
        """What is said when it is stopped."""
        count = len(self._on_the_way)
        return f"finishing the {count} images that are on their way; interrupt again to stop at once"

    def execute(self, jobs: Iterable[Job]) -> None:
        """Runs the jobs until all are done or `stop` is called.

        Raises:
            StoppedError: the disk is full, the manifest cannot be written, or no server can be reached any more.
            CutoutError: the server refuses the stream as a whole.
        """
        settings = self._settings
        with (
            ThreadPoolExecutor(self._source.io_threads, "cutstream-read") as readers,
            ThreadPoolExecutor(self._target.io_threads, "cutstream-write") as writers,
        ):
            images = self._images(_ahead(readers, self._source.io_threads, self._read, self._until_stopped(jobs)))
            results = self._client.stream(
                images,
                window=settings.window,
                streams=settings.streams,
                image_timeout_seconds=settings.image_timeout_seconds,
                **settings.options,
            )
            try:
                with contextlib.closing(results):
                    for _ in _ahead(writers, self._target.io_threads, self._finish, self._answers(results)):
                        pass
            finally:
                # Whatever ended the loop: the readers' thread stops at its next image.
                self._stopping.set()
        if self._unreachable is not None:
            raise StoppedError(self._unreachable.message) from self._unreachable

    # From job to image, on the stream's source thread and the readers'

    def _until_stopped(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            if self._stopping.is_set():
                return
            yield job

    def _read(self, job: Job) -> tuple[_Taken, bytes] | None:
        """The image; None when there is nothing more to do about it."""
        started = time.monotonic()
        facts = None
        try:
            facts = self._source.facts(job.path)
            earlier = self._earlier_status(job, facts)
            if earlier is not None:
                self._progress.skip(failed=earlier == ERROR)
                return None
            taken = _Taken(job, facts, started)
            if facts is not None and facts.size > self._settings.max_image_bytes:
                self._note_error(taken, _too_large(facts.size, self._settings.max_image_bytes))
                return None
            # Also when it is not there: reading it says so best.
            return taken, self._source.read(job.path)
        except OSError as error:
            self._note_error(_Taken(job, facts, started), source_unreadable(error))
            return None

    def _images(self, read: Iterable[tuple[_Taken, bytes] | None]) -> Iterator[StreamImage]:
        for image in read:
            if image is None:
                continue
            taken, data = image
            # No path ends in a slash, so that no number is another image's path.
            image_id = default_id(taken.job.relative, taken.job.number)
            if image_id != taken.job.relative:
                image_id += "/"
            self._on_the_way[image_id] = taken
            yield StreamImage(data, image_id)

    def _earlier_status(self, job: Job, facts: FileFacts | None) -> str | None:
        """The status that the manifest and the cutout's file agree on; None when the image is to be done."""
        name = self._source.name(job.path)
        if not self._done.knows(name):
            return None
        options = self._settings.options_hash
        if self._done.says(name, State(facts, options, None, None, ERROR)):
            return None if self._settings.retry_failed else ERROR
        state = State(facts, options, None, None)
        if self._keeps_cutouts:
            cutout = self._target.facts(self._target.join(self._output, job.output))
            if cutout is None:
                return None
            state = State(facts, options, job.output, cutout.size)
        return OK if self._done.says(name, state) else None

    # From result to manifest, on this thread and the writers'

    def _answers(self, results: Iterable[Cutout | CutoutError]) -> Iterator[tuple[_Taken, Cutout | CutoutError]]:
        for result in results:
            taken = self._on_the_way.pop(result.image_id)
            if isinstance(result, CutoutError) and result.reason == SERVER_UNREACHABLE:
                # Not the image's failure: without a line in the manifest the next run does it.
                self._unreachable = result
                self._stopping.set()
                continue
            yield taken, result

    def _finish(self, answer: tuple[_Taken, Cutout | CutoutError]) -> None:
        taken, result = answer
        if isinstance(result, CutoutError):
            self._note_error(taken, result)
            return
        try:
            if result.data:
                self._target.write(self._target.join(self._output, taken.job.output), result.data)
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                raise StoppedError(f"cannot write cutouts: {error.strerror}") from error
            self._note_error(taken, CutoutError("OUTPUT_UNWRITABLE", str(error), metrics=result.metrics))
            return
        line = _line(taken, self._source, self._settings.options_hash, result.metrics, status=OK)
        line |= {"width_px": result.width_px, "height_px": result.height_px, "crop": _flat(to_json(result).get("crop"))}
        if result.data:
            digest = sha256(result.data).hexdigest()
            line |= {"output": taken.job.output, "output_bytes": len(result.data), "sha256": digest}
        self._note(taken, line, result.metrics)

    def _note_error(self, taken: _Taken, error: CutoutError) -> None:
        self.reasons[error.reason] += 1
        line = _line(taken, self._source, self._settings.options_hash, error.metrics, status=ERROR)
        line |= {"reason": error.reason, "message": error.message, "metadata": error.metadata}
        self._note(taken, line, error.metrics)

    def _note(self, taken: _Taken, line: dict[str, object], metrics: Metrics | None) -> None:
        try:
            self._manifest.append(line)
        except OSError as error:
            raise StoppedError(f"cannot write the manifest: {error.strerror}") from error
        if self._done.knows(self._source.name(taken.job.path)):
            self.needs_compacting = True
        self._progress.finish(metrics, failed=line["status"] == ERROR)


class Stoppable(Protocol):
    """A run that can be stopped in good order."""

    @property
    def stopping(self) -> str:
        """What is said then."""

    def stop(self) -> None:
        """Takes no more images."""


def max_image_bytes(client: Client) -> float:
    """Larger images are not even read; a token that may not ask for the limit leaves that to the server."""
    try:
        return client.info().limits.max_image_bytes or math.inf
    except CutoutError as error:
        if error.reason != PERMISSION_DENIED:
            raise
        return math.inf


@contextlib.contextmanager
def stops_at_signals(run: Stoppable, say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Inside, the first SIGINT or SIGTERM stops the run in good order, and the second at once (KeyboardInterrupt).

    Gives an event that tells whether there was one.
    """
    interrupted = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        run.stop()
        say(run.stopping)

    before = {number: signal.signal(number, handle) for number in _STOP_SIGNALS}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ahead(pool: ThreadPoolExecutor, count: int, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """`function` of each item, in order, with `count` of them at work or waiting to be taken."""
    waiting: deque[Future[U]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _too_large(measured: int, limit: float) -> CutoutError:
    """As the server says it."""
    numbers = {"limit": f"{limit:.0f}", "measured": str(measured), "unit": "bytes"}
    return CutoutError(IMAGE_TOO_LARGE, f"the image has {measured} bytes; {limit:.0f} are allowed", metadata=numbers)


def _line(
    taken: _Taken, source: Storage, options_hash: str, metrics: Metrics | None, *, status: str
) -> dict[str, object]:
    measured: dict[str, Any] = {} if metrics is None else to_json(metrics)
    durations = measured.get("durations") or {}
    facts = taken.facts
    return {
        "input": source.name(taken.job.path),
        "output": None,
        "output_bytes": None,
        "sha256": None,
        "status": status,
        "size": None if facts is None else facts.size,
        "mtime": None if facts is None else facts.mtime,
        "options": options_hash,
        "metrics": _flat({key: value for key, value in measured.items() if key not in _NOT_MEASURED}),
        "timings": {**durations, "client_seconds": time.monotonic() - taken.started},
    }


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with the names joined by "_"; nothing of None."""
    if not isinstance(value, dict):
        return {} if value is None else {prefix: value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}_{key}" if prefix else key)
    return flat
