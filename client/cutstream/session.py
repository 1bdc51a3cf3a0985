"""One call of `stream`: its window, its source, its wire, and what happens when the wire breaks.

Three parties on one event loop share the state of `StreamSession`: `_take_all` fills it from the caller's images,
`_serve` keeps a stream to a server going as long as something is unanswered, `next` hands results out. An image is open
from the moment it is taken until it is answered; exactly there, in `_answer`, it becomes a result, so none can come out
twice or get lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import grpc

from cutstream.convert import connection_lost, cutout_from_proto, error_from_status
from cutstream.errors import CANCELLED, UNAUTHENTICATED, CutoutError, deadline, for_image
from cutstream.images import default_id
from cutstream.options import options_to_proto
from cutstream.results import Cutout
from cutstream.retry import Attempts, backoff_seconds
from cutstream.tracing import ClientSpan, image_span
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.wire import StreamEndedError, Wire

if TYPE_CHECKING:
    from cutstream.connection import Connection
    from cutstream.images import StreamImage
    from cutstream.source import ImageSource

Result: TypeAlias = Cutout | CutoutError
"""What a stream yields for an image: its cutout, or why there is none. Both have `image_id` and `metrics`."""

# A server that answered everything has only its summary left to send.
_SUMMARY_SECONDS = 5.0


@dataclass(frozen=True)
class StreamSettings:
    """What the caller of `stream` decided."""

    options: pb.RemovalOptions
    window: int
    window_bytes: int
    ordered: bool
    timeout_seconds: float | None
    image_timeout_seconds: float | None

    def __post_init__(self) -> None:
        if self.window < 1 or self.window_bytes < 1:
            raise ValueError("window and window_bytes must be at least 1")


@dataclass(eq=False)
class _Image:
    """An image that is not answered yet."""

    number: int
    image_id: str
    data: bytes
    options: pb.RemovalOptions
    attempts: Attempts
    span: ClientSpan
    timer: asyncio.TimerHandle | None = None


class _Signal:
    """Wakes everyone who waits for a condition to become true."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._event.wait()


class StreamSession:
    """The state of one stream. Everything but the constructor belongs to one event loop."""

    def __init__(self, connect: Callable[[], Connection], source: ImageSource, settings: StreamSettings) -> None:
        self._connect = connect
        self._source = source
        self._settings = settings
        self._signal = _Signal()
        self._tasks: list[asyncio.Task[None]] = []
        self._stream_timer: asyncio.TimerHandle | None = None

        self._open: dict[int, _Image] = {}
        self._outbox: deque[_Image] = deque()
        self._results: deque[Result] = deque()
        self._early: dict[int, Result] = {}
        self._next_number = 0
        self._held = 0
        self._source_done = False
        self._failure: Exception | None = None

        self._wire: Wire | None = None
        # Of the current wire: images sent and not answered, and ids that were given up and may still be answered.
        self._sent: dict[str, _Image] = {}
        self._abandoned: set[str] = set()
        self._losses = 0
        # Whether the last stream was ended for its token, and nothing has been answered since.
        self._token_renewed = False

    async def next(self) -> Result | None:
        """The next result; None when all images came out.

        Raises:
            CutoutError: the stream as a whole was refused, or its time ran out; what was finished has come out before.
            Exception: the caller's iterator failed; all images taken from it have come out before.
        """
        if not self._tasks:
            self._start()
        await self._signal.until(lambda: self._results or self._is_over())
        if self._results:
            self._held -= 1
            self._signal.notify()
            return self._results.popleft()
        if self._wire is not None and not self._abandoned:
            await asyncio.wait(self._tasks, timeout=_SUMMARY_SECONDS)
        await self.aclose()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return None

    async def aclose(self) -> None:
        """Cancels whatever is under way and lets go of every image."""
        # First of all, so that the stream is cancelled instead of ended in good order.
        for task in self._tasks:
            task.cancel()
        if not self._is_over() and self._tasks:
            self._abort(CutoutError(CANCELLED, "the stream was closed", code=grpc.StatusCode.CANCELLED))
        self._results.clear()
        if self._stream_timer is not None:
            self._stream_timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._source.close()

    def _start(self) -> None:
        self._tasks = [asyncio.create_task(self._take_all()), asyncio.create_task(self._serve())]
        if self._settings.timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            self._stream_timer = loop.call_later(self._settings.timeout_seconds, self._expire_all)

    def _is_over(self) -> bool:
        return self._source_done and not self._open

    # Taking images from the source

    async def _take_all(self) -> None:
        try:
            for number in itertools.count():
                await self._signal.until(lambda: self._held < self._settings.window)
                self._held += 1
                taken = await self._source.take()
                if taken is None:
                    break
                await self._admit(number, *taken)
                del taken  # holds no image while it waits for room for the next
        except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything; `next` raises it again
            self._failure = self._failure or error
        self._source_done = True
        self._signal.notify()

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
        image = _Image(number, image_id, data, options, Attempts(self._connect().retry), image_span(image_id))
        del data
        self._open[number] = image
        if self._settings.image_timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            image.timer = loop.call_later(self._settings.image_timeout_seconds, self._expire, image)
        await self._signal.until(lambda: not self._is_open(image) or self._has_room_for(image))
        if self._is_open(image):
            self._outbox.append(image)
            self._signal.notify()

    def _has_room_for(self, image: _Image) -> bool:
        """Whether all open images fit the window's bytes, an image alone always does; two of one id never do."""
        if len(self._open) == 1:
            return True
        fits = sum(len(other.data) for other in self._open.values()) <= self._settings.window_bytes
        return fits and all(other is image or other.image_id != image.image_id for other in self._open.values())

    # From open image to result

    def _is_open(self, image: _Image) -> bool:
        return self._open.get(image.number) is image

    def _answer(self, image: _Image, result: Result) -> None:
        """The one place where an open image ends."""
        del self._open[image.number]
        image.span.end(result if isinstance(result, CutoutError) else None)
        image.data = b""
        if self._sent.get(image.image_id) is image:
            self._abandoned.add(image.image_id)
        if image.timer is not None:
            image.timer.cancel()
        if image in self._outbox:
            self._outbox.remove(image)
        self._deliver(image.number, result)

    def _deliver(self, number: int, result: Result) -> None:
        if self._settings.ordered:
            self._early[number] = result
            while self._next_number in self._early:
                self._results.append(self._early.pop(self._next_number))
                self._next_number += 1
        else:
            self._results.append(result)
        self._signal.notify()

    def _fail_or_queue(self, image: _Image, error: CutoutError) -> float | None:
        """Counts a failed attempt: the wait before the next one, or None when the image ended with this error."""
        wait_seconds = image.attempts.wait_seconds(error)
        image.span.note("attempt failed", reason=error.reason)
        if wait_seconds is None:
            self._answer(image, for_image(error, image.image_id))
        return wait_seconds

    def _expire(self, image: _Image) -> None:
        assert self._settings.image_timeout_seconds is not None
        self._answer(image, for_image(deadline(self._settings.image_timeout_seconds), image.image_id))

    def _expire_all(self) -> None:
        assert self._settings.timeout_seconds is not None
        error = deadline(self._settings.timeout_seconds)
        if not self._source_done:
            self._failure = error
            self._stop_taking()
        self._fail_open(error)

    def _fail_open(self, error: CutoutError) -> None:
        for image in list(self._open.values()):
            self._answer(image, for_image(error, image.image_id))

    def _abort(self, error: Exception) -> None:
        """Ends the stream: what is finished comes out, what is open is dropped, then `next` raises the error."""
        self._failure = error
        self._stop_taking()
        for image in self._open.values():
            image.span.end(error)
            if image.timer is not None:
                image.timer.cancel()
        self._open.clear()
        self._outbox.clear()
        self._results.extend(self._early[number] for number in sorted(self._early))
        self._early.clear()

    def _stop_taking(self) -> None:
        self._source_done = True
        self._tasks[0].cancel()
        self._signal.notify()

    # Serving the open images

    async def _serve(self) -> None:
        try:
            while True:
                await self._signal.until(lambda: self._outbox or self._is_over())
                if not self._outbox:
                    return
                try:
                    await self._connect().reach()
                except CutoutError as error:
                    self._fail_open(error)
                    continue
                await self._serve_on_one_stream()
        except Exception as error:  # noqa: BLE001 - a refused stream, or a fault here: `next` raises it, nobody waits for ever
            self._abort(error)

    async def _serve_on_one_stream(self) -> None:
        """Sends and reads until all is answered or the stream breaks; then readies the unanswered for another one.

        Raises:
            CutoutError: the server refuses the stream, and would refuse the next.
        """
        connection = self._connect()
        wire = self._wire = Wire(connection)
        self._sent, self._abandoned = {}, set()
        sender = asyncio.create_task(self._send(wire))
        error: CutoutError | None = None
        try:
            async for result, data in wire.results():
                self._on_result(result, data)
            if any(self._is_open(image) for image in self._sent.values()):
                error = connection_lost("the stream ended before all its images were answered")
        except CutoutError as broken:
            error = broken
        finally:
            self._wire = None
            sender.cancel()
            wire.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        tried, self._sent = [image for image in self._sent.values() if self._is_open(image)], {}
        if error is None:
            return
        if error.reason == UNAUTHENTICATED and not self._token_renewed and connection.metadata() != wire.metadata:
            self._token_renewed = True
            error = connection_lost("the token of the stream was replaced")
        if not error.retryable:
            raise error
        self._losses += 1
        # A stream that broke before it took an image was still an attempt, for those that waited.
        again = [image for image in tried or list(self._outbox) if self._fail_or_queue(image, error) is not None]
        self._outbox = deque(sorted({*again, *self._outbox}, key=lambda image: image.number))
        if self._open:
            wait_seconds = (error.retry_after_seconds or 0.0) + backoff_seconds(self._losses, connection.retry)
            await asyncio.sleep(wait_seconds)

    async def _send(self, wire: Wire) -> None:
        # When the stream has ended, its reader is told why.
        with contextlib.suppress(StreamEndedError):
            await wire.send_config(self._settings.options)
            while True:
                await self._signal.until(lambda: self._outbox or self._is_over())
                # The server may still answer an abandoned image: only another stream tells it from its namesake.
                if not self._outbox or self._outbox[0].image_id in self._abandoned:
                    break
                image = self._outbox.popleft()
                self._sent[image.image_id] = image
                image.span.note("sending", size_bytes=len(image.data))
                is_wanted = partial(self._is_open, image)
                await wire.send_image(image.image_id, image.data, image.options, image.span.traceparent, is_wanted)
            await wire.end_sending()

    def _on_result(self, result: pb.ImageResult, data: bytes) -> None:
        self._losses, self._token_renewed = 0, False
        self._abandoned.discard(result.image_id)
        image = self._sent.pop(result.image_id, None)
        if image is None or not self._is_open(image):
            return
        if result.HasField("cutout"):
            self._answer(image, cutout_from_proto(image.image_id, result.cutout, data, result.metrics))
            return
        metrics = result.metrics if result.HasField("metrics") else None
        wait_seconds = self._fail_or_queue(image, error_from_status(result.error, image.image_id, metrics))
        if wait_seconds is not None:
            asyncio.get_running_loop().call_later(wait_seconds, self._queue_again, image)

    def _queue_again(self, image: _Image) -> None:
        if self._is_open(image):
            self._outbox.append(image)
            self._signal.notify()
