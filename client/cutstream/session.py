"""One call of `stream`: its window, its source, its results; the streams that serve it are in `lane`.

Three parties on one event loop share the state of `StreamSession`: `_take_all` fills it from the caller's images, lanes
keep streams to servers going as long as something is unanswered, `next` hands results out. An image is open from the
moment it is taken until it is answered; exactly there, in `answer`, it becomes a result, so none can come out twice or
get lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc

from cutstream.errors import CANCELLED, CutoutError, deadline, for_image
from cutstream.images import default_id
from cutstream.lane import Lane, OpenStream
from cutstream.options import options_to_proto
from cutstream.results import Cutout
from cutstream.retry import Attempts
from cutstream.tracing import ClientSpan, image_span

if TYPE_CHECKING:
    from cutstream.config import RetryConfig
    from cutstream.connection import Connection
    from cutstream.images import StreamImage
    from cutstream.source import ImageSource
    from cutstream.v1 import cutstream_pb2 as pb

Result: TypeAlias = Cutout | CutoutError
"""What a stream yields for an image: its cutout, or why there is none. Both have `image_id` and `metrics`."""

# As many as a server works on for one stream.
WINDOW_OF_A_STREAM = 8
# Eight photos of 8 MB, or one scan that is larger than that; for each stream.
WINDOW_BYTES_OF_A_STREAM = 64 * 1024 * 1024
# A server that answered everything has only its summary left to send.
_SUMMARY_SECONDS = 5.0
# How long a server that was added behind a name may wait for its first image.
LOOK_UP_SECONDS = 5.0
# One client sends some hundred images a second, which keeps no more servers busy; streams=N takes more.
_MOST_AUTOMATIC_STREAMS = 16


@dataclass(frozen=True)
class StreamSettings:
    """What the caller of `stream` decided; None: by the number of servers, and so many for each stream."""

    options: pb.RemovalOptions
    window: int | None
    window_bytes: int | None
    ordered: bool
    timeout_seconds: float | None
    image_timeout_seconds: float | None
    streams: int | None
    retry: RetryConfig

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.window, self.window_bytes, self.streams)):
            raise ValueError("window, window_bytes and streams must be at least 1")


@dataclass(eq=False)
class OpenImage:
    """An image that is not answered yet."""

    number: int
    image_id: str
    data: bytes
    options: pb.RemovalOptions
    attempts: Attempts
    span: ClientSpan
    timer: asyncio.TimerHandle | None = None


class Signal:
    """Wakes everyone who waits for a condition to become true."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Has all conditions looked at again."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for the condition, which may change only together with `notify`."""
        while not condition():
            await self._event.wait()


class StreamSession:
    """The state of one call. Everything but the constructor belongs to one event loop.

    Args:
        connect: gives a connection to some servers' addresses, or with none the client's own.
        find_servers: finds the addresses of a pool's servers; none where there is one server, or gRPC alone knows more.
    """

    def __init__(
        self,
        connect: Callable[[str], Connection],
        find_servers: Callable[[], Awaitable[Sequence[str]]],
        source: ImageSource,
        settings: StreamSettings,
    ) -> None:
        self.settings = settings
        self.signal = Signal()
        self.outbox: deque[OpenImage] = deque()
        """Images that wait to be sent."""
        self.streams: set[OpenStream] = set()
        """Those that are open, also those that are only read from."""
        self.lanes: list[Lane] = []
        self._connect = connect
        self._find_servers = find_servers
        self._source = source
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._stream_timer: asyncio.TimerHandle | None = None

        self._open: dict[int, OpenImage] = {}
        self._results: deque[Result] = deque()
        self._early: dict[int, Result] = {}
        self._next_number = 0
        self._held = 0
        self._source_done = False
        self._failure: Exception | None = None

    async def next(self) -> Result | None:
        """The next result; None when all images came out.

        Raises:
            CutoutError: the stream as a whole was refused, or its time ran out; what was finished has come out before.
            Exception: the caller's iterator failed; all images taken from it have come out before.
        """
        if self._taking is None:
            self._start()
        await self.signal.until(lambda: self._results or self.is_over())
        if self._results:
            self._held -= 1
            self.signal.notify()
            return self._results.popleft()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SUMMARY_SECONDS):
                for stream in [stream for stream in self.streams if not stream.abandoned]:
                    await stream.ended.wait()
        await self.aclose()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return None

    async def aclose(self) -> None:
        """Cancels whatever is under way and lets go of every image."""
        # First of all, so that streams are cancelled instead of ended in good order.
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if not self.is_over() and self._taking is not None:
            self.abort(CutoutError(CANCELLED, "the stream was closed", code=grpc.StatusCode.CANCELLED))
        self._results.clear()
        if self._stream_timer is not None:
            self._stream_timer.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._source.close()

    def is_over(self) -> bool:
        """Whether no image is open and none will be."""
        return self._source_done and not self._open

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs a part of the session until it ends or the session is closed."""
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a refused stream, or a fault here: `next` raises it, nobody waits for ever
            self.abort(error)

    def _start(self) -> None:
        self._taking = self.spawn(self._take_all())
        self.spawn(self._keep_lanes())
        if self.settings.timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            self._stream_timer = loop.call_later(self.settings.timeout_seconds, self._expire_all)

    async def _keep_lanes(self) -> None:
        """Opens a lane for each stream that is wanted, as long as its servers are there."""
        while True:
            servers = await self._find_servers()
            # A name server that fails for a moment takes nobody away.
            if servers or not self.lanes:
                self._set_lanes(Counter(self._shares(servers)))
            await asyncio.sleep(LOOK_UP_SECONDS)

    def _set_lanes(self, groups: Counter[str]) -> None:
        for lane in self.lanes[:]:
            if groups[lane.servers]:
                groups[lane.servers] -= 1
            else:
                self.lanes.remove(lane)
                lane.leave()
        for group in groups.elements():
            lane = Lane(self, self._connect(group), group)
            self.lanes.append(lane)
            self.spawn(lane.run())
        # The window may have changed.
        self.signal.notify()

    def _shares(self, servers: Sequence[str]) -> list[str]:
        """The addresses for each lane: all have one where there are enough lanes, else several, to take turns at."""
        lanes = self.settings.streams or min(max(1, len(servers)), _MOST_AUTOMATIC_STREAMS)
        lanes = min(lanes, self.settings.window or lanes)
        if len(servers) <= lanes:
            return [servers[number % len(servers)] if servers else "" for number in range(lanes)]
        return [",".join(servers[number::lanes]) for number in range(lanes)]

    # Taking images from the source

    @property
    def _window(self) -> int:
        return self.settings.window or WINDOW_OF_A_STREAM * max(1, len(self.lanes))

    @property
    def share(self) -> int:
        """Most images for each lane."""
        return math.ceil(self._window / max(1, len(self.lanes)))

    @property
    def _window_bytes(self) -> int:
        return self.settings.window_bytes or WINDOW_BYTES_OF_A_STREAM * max(1, len(self.lanes))

    async def _take_all(self) -> None:
        try:
            for number in itertools.count():
                await self.signal.until(lambda: self._held < self._window)
                self._held += 1
                taken = await self._source.take()
                if taken is None:
                    break
                await self._admit(number, *taken)
                del taken  # holds no image while it waits for room for the next
        except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything; `next` raises it again
            self._failure = self._failure or error
        self._source_done = True
        self.signal.notify()

    async def _admit(self, number: int, item: StreamImage, data: bytes | CutoutError) -> None:
        """Opens the image and queues it for sending, as soon as the window has room for its bytes."""
        image_id = item.image_id or default_id(item.image, number)
        try:
            options = options_to_proto(item.options)
        except CutoutError as error:
            data = error
        if isinstance(data, CutoutError):
            self._deliver(number, for_image(data, image_id))
            return
        image = OpenImage(number, image_id, data, options, Attempts(self.settings.retry), image_span(image_id))
        del data
        self._open[number] = image
        if self.settings.image_timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            image.timer = loop.call_later(self.settings.image_timeout_seconds, self._expire, image)
        await self.signal.until(lambda: not self.is_open(image) or self._has_room_for(image))
        if self.is_open(image):
            self.outbox.append(image)
            self.signal.notify()

    def _has_room_for(self, image: OpenImage) -> bool:
        """Whether all open images fit the window's bytes, an image alone always does; two of one id never do."""
        if len(self._open) == 1:
            return True
        fits = sum(len(other.data) for other in self._open.values()) <= self._window_bytes
        return fits and all(other is image or other.image_id != image.image_id for other in self._open.values())

    # From open image to result

    def is_open(self, image: OpenImage) -> bool:
        """Whether the image is still to be answered."""
        return self._open.get(image.number) is image

    def answer(self, image: OpenImage, result: Result) -> None:
        """The one place where an open image ends."""
        del self._open[image.number]
        image.span.end(result if isinstance(result, CutoutError) else None)
        image.data = b""
        for stream in self.streams:
            stream.give_up(image)
        if image.timer is not None:
            image.timer.cancel()
        if image in self.outbox:
            self.outbox.remove(image)
        self._deliver(image.number, result)

    def _deliver(self, number: int, result: Result) -> None:
        if self.settings.ordered:
            self._early[number] = result
            while self._next_number in self._early:
                self._results.append(self._early.pop(self._next_number))
                self._next_number += 1
        else:
            self._results.append(result)
        self.signal.notify()

    def fail_or_wait(self, image: OpenImage, error: CutoutError) -> float | None:
        """Counts a failed attempt: the wait before the next one, or None when the image ended with this error."""
        wait_seconds = image.attempts.wait_seconds(error)
        image.span.note("attempt failed", reason=error.reason)
        if wait_seconds is None:
            self.answer(image, for_image(error, image.image_id))
        return wait_seconds

    def queue_again(self, images: Iterable[OpenImage]) -> None:
        """Has images sent once more, in their order."""
        again = {image for image in images if self.is_open(image)}
        self.outbox = deque(sorted({*again, *self.outbox}, key=lambda image: image.number))
        self.signal.notify()

    def _expire(self, image: OpenImage) -> None:
        assert self.settings.image_timeout_seconds is not None
        self.answer(image, for_image(deadline(self.settings.image_timeout_seconds), image.image_id))

    def _expire_all(self) -> None:
        assert self.settings.timeout_seconds is not None
        error = deadline(self.settings.timeout_seconds)
        if not self._source_done:
            self._failure = error
            self._stop_taking()
        self._fail(self._open.values(), error)

    def fail_unsent(self, error: CutoutError) -> None:
        """Ends the images that wait for a stream."""
        self._fail((image for image in self._open.values() if not any(s.has(image) for s in self.streams)), error)

    def _fail(self, images: Iterable[OpenImage], error: CutoutError) -> None:
        for image in list(images):
            self.answer(image, for_image(error, image.image_id))

    def abort(self, error: Exception) -> None:
        """Ends the session: what is finished comes out, what is open is dropped, then `next` raises the error."""
        self._failure = error
        self._stop_taking()
        for image in self._open.values():
            image.span.end(error)
            if image.timer is not None:
                image.timer.cancel()
        self._open.clear()
        self.outbox.clear()
        self._results.extend(self._early[number] for number in sorted(self._early))
        self._early.clear()

    def _stop_taking(self) -> None:
        self._source_done = True
        assert self._taking is not None
        self._taking.cancel()
        self.signal.notify()
