"""One bidirectional stream: chunks in, results out in the order of completion, memory bounded by the admission."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import grpc

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.budget import Place
from cutstream_server.errors import (
    CutstreamError,
    DrainingError,
    FieldViolation,
    ImageTooLargeError,
    IncompleteImageError,
    InvalidOptionsError,
    ProtocolViolationError,
    UploadTimeoutError,
)
from cutstream_server.limits import Limits
from cutstream_server.options import Options
from cutstream_server.rpc import converters
from cutstream_server.rpc.admission import Admission
from cutstream_server.rpc.handlers import receive, send
from cutstream_server.service import Outcome, Service
from cutstream_server.telemetry.images import ObservedImage, Telemetry

MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
CUTOUT_CHUNK_BYTES: Final = 1024 * 1024

StreamContext: TypeAlias = (
    "grpc.aio.ServicerContext[pb.StreamRemoveBackgroundRequest, pb.StreamRemoveBackgroundResponse]"
)
T = TypeVar("T")


@dataclass
class _Upload:
    """An image whose chunks are coming in.

    `place` is None before it is admitted and after it is answered; what then still comes of it is discarded. `due` is
    when it must be complete, by `time.monotonic`.
    """

    image_id: str
    observed: ObservedImage
    options: Options | None = None
    size_bytes: int = 0
    place: Place | None = None
    parts: list[bytes] = field(default_factory=list)
    received_bytes: int = 0
    received_chunks: int = 0
    due: float = math.inf


class StreamSession:
    """The life of one stream. Call `run` once.

    Args:
        service: processes the images.
        admission: the budget of the whole process.
        draining: set when the server stops.
        context: the call.
        limits: of the service, some of which are for each stream.
        telemetry: is told about each image.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission,
        draining: asyncio.Event,
        context: StreamContext,
        limits: Limits,
        telemetry: Telemetry,
    ) -> None:
        self._service = service
        self._admission = admission
        self._draining = draining
        self._context = context
        self._limits = limits
        self._telemetry = telemetry
        self._stream_options: dict[str, Any] = {}
        self._upload: _Upload | None = None
        self._unanswered: set[str] = set()
        self._window = asyncio.Semaphore(limits.max_in_flight_per_stream)
        self._images: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Future[Any]] = set()
        self._fault: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._write_lock = asyncio.Lock()
        self._started = time.perf_counter()
        self._succeeded = 0
        self._failures: Counter[str] = Counter()
        self._stage_seconds: Counter[str] = Counter()

    async def run(self) -> None:
        """Reads images until the client half-closes or the server drains, answers them all, and ends with the summary.

        Raises:
            CutstreamError: when the stream itself is at fault, or drains; the caller aborts the call with it.
        """
        drain_wait = asyncio.ensure_future(self._draining.wait())
        self._background.add(drain_wait)
        try:
            drained = not await self._read_config(drain_wait) or await self._read_images(drain_wait)
            await asyncio.gather(*self._images)
            self._raise_fault()
            await self._send(pb.StreamRemoveBackgroundResponse(summary=self._summary(draining=drained)))
        finally:
            for task in self._background | self._images:
                task.cancel()
            await asyncio.gather(*self._background, *self._images, return_exceptions=True)
            if self._upload is not None:
                self._release(self._upload)
                self._upload.observed.end(None)
        if drained:
            raise DrainingError("the server is stopping; send what is unanswered to another one")

    async def _read_config(self, drain_wait: asyncio.Future[Any]) -> bool:
        """Reads the first message. Returns whether there was one before the server drained."""
        first = self._start(receive(self._context, pb.StreamRemoveBackgroundRequest, self._limits.pause_seconds))
        await asyncio.wait({first, drain_wait}, return_when="FIRST_COMPLETED")
        if not first.done():
            return False
        message = first.result()
        if message is None or message.WhichOneof("payload") != "config":
            raise ProtocolViolationError("the first message of a stream must be its config")
        explicit = converters.options_from_message(message.config.options)
        self._stream_options = self._service.options.stream_level(explicit, path="config.options.")
        return True

    async def _read_images(self, drain_wait: asyncio.Future[Any]) -> bool:
        """Reads chunks to the end. Returns whether it stopped because the server drains."""
        pending: asyncio.Task[pb.StreamRemoveBackgroundRequest | None] | None = None
        while not self._draining.is_set():
            # A read that timed out goes on: cancelling it would lose the message that it may have taken already.
            pending = pending or self._start(receive(self._context, pb.StreamRemoveBackgroundRequest))
            ends = {pending, drain_wait, self._fault}
            await asyncio.wait(ends, timeout=self._patience(), return_when="FIRST_COMPLETED")
            self._raise_fault()
            if pending.done():
                message, pending = pending.result(), None
                if message is None:
                    await self._drop_upload(IncompleteImageError("the stream ended before the image's last chunk"))
                    return False
                await self._take_message(message, drain_wait)
            elif not drain_wait.done():
                await self._drop_upload(self._upload_timeout())
        return True

    def _patience(self) -> float | None:
        """Seconds to wait for the next message; None for ever, between images."""
        upload = self._upload
        if upload is None or upload.place is None:
            return None
        return max(0.0, min(self._limits.pause_seconds, upload.due - time.monotonic()))

    def _upload_timeout(self) -> UploadTimeoutError:
        assert self._upload is not None
        if time.monotonic() >= self._upload.due:
            return UploadTimeoutError("the image's upload takes too long", timeout_seconds=self._limits.upload_seconds)
        return UploadTimeoutError("no data in the middle of an image", timeout_seconds=self._limits.pause_seconds)

    async def _take_message(self, message: pb.StreamRemoveBackgroundRequest, drain_wait: asyncio.Future[Any]) -> None:
        if message.WhichOneof("payload") != "chunk":
            raise ProtocolViolationError("after the config a stream carries chunks only")
        chunk = message.chunk
        if self._upload is None or self._upload.image_id != chunk.image_id:
            await self._drop_upload(IncompleteImageError("another image began before the image's last chunk"))
            await self._begin_upload(chunk, drain_wait)
        elif chunk.HasField("options") or chunk.HasField("size_bytes"):
            await self._drop_upload(_violation("options", "options and size_bytes belong to an image's first chunk"))
        await self._append(chunk)

    async def _begin_upload(self, chunk: pb.ImageChunk, drain_wait: asyncio.Future[Any]) -> None:
        """Checks an image's first chunk and waits for its place; on an error the image is answered at once."""
        self._check_id(chunk.image_id)
        observed = ObservedImage.in_stream(self._telemetry, chunk.image_id, chunk.traceparent)
        self._upload = upload = _Upload(chunk.image_id, observed)
        self._unanswered.add(chunk.image_id)
        try:
            explicit = converters.options_from_message(chunk.options)
            upload.options = self._service.options.resolve(explicit, self._stream_options)
            upload.size_bytes = self._size_of(chunk)
        except CutstreamError as error:
            await self._answer(upload, Outcome(error=error))
            return
        admission = self._start(self._admit(upload))
        await asyncio.wait({admission, drain_wait}, return_when="FIRST_COMPLETED")
        if admission.done():
            admission.result()
        else:
            admission.cancel()

    async def _admit(self, upload: _Upload) -> None:
        await self._window.acquire()
        try:
            upload.place = await self._admission.admit(upload.size_bytes)
            upload.due = time.monotonic() + self._limits.upload_seconds
        except BaseException:
            self._window.release()
            raise
        upload.observed.admitted()

    async def _append(self, chunk: pb.ImageChunk) -> None:
        """Adds a chunk's data to the image; the last chunk completes it and starts its work."""
        upload = self._upload
        if upload is None or upload.place is None:  # Answered already.
            if chunk.last:
                self._upload = None
            return
        upload.parts.append(chunk.data)
        upload.received_bytes += len(chunk.data)
        upload.received_chunks += 1
        if len(chunk.data) > MAX_CHUNK_BYTES:
            await self._drop_upload(ImageTooLargeError.of_bytes("a chunk", len(chunk.data), MAX_CHUNK_BYTES))
        elif upload.received_chunks > self._limits.max_image_chunks:
            await self._drop_upload(_too_many_chunks(self._limits.max_image_chunks))
        elif upload.received_bytes > upload.size_bytes:
            text = f"is {upload.size_bytes}, and at least {upload.received_bytes} bytes came"
            await self._drop_upload(_violation("size_bytes", text))
        elif chunk.last and upload.received_bytes < upload.size_bytes:
            text = f"size_bytes is {upload.size_bytes}, and the last chunk came after {upload.received_bytes} bytes"
            await self._drop_upload(IncompleteImageError(text))
        elif chunk.last:
            upload.observed.received(upload.received_bytes)
            task = asyncio.ensure_future(self._process(upload))
            self._images.add(task)
            task.add_done_callback(self._image_done)
        if chunk.last:
            self._upload = None

    async def _process(self, upload: _Upload) -> None:
        data = b"".join(upload.parts)
        upload.parts.clear()
        try:
            assert upload.options is not None
            with upload.observed.active():
                outcome = await self._service.process(data, upload.options, time_left=self._context.time_remaining())
            # From here on the image is no work any more, only a result that waits for the client to read it: one that
            # does not read must not keep the places of others.
            del data
            assert upload.place is not None
            upload.place.change(amount=len(outcome.cutout.image) if outcome.cutout else 0, counts=False)
            await self._answer(upload, outcome)
        finally:
            self._release(upload)
            upload.observed.end(None)

    def _image_done(self, task: asyncio.Task[None]) -> None:
        """Remembers a fault of ours, so that an image without an answer ends the stream and does not vanish."""
        self._images.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._fault.done():
            self._fault.set_result(task.exception())

    async def _drop_upload(self, error: CutstreamError) -> None:
        """Answers the unfinished image, if there is one, and frees its place; its further chunks are discarded."""
        upload = self._upload
        if upload is None or upload.place is None:
            return
        upload.parts.clear()
        self._release(upload)
        await self._answer(upload, Outcome(error=error))

    def _release(self, upload: _Upload) -> None:
        if upload.place is not None:
            upload.place.release()
            upload.place = None
            self._window.release()

    async def _answer(self, upload: _Upload, outcome: Outcome) -> None:
        """Writes the one answer of an image: its cutout's chunks, if it is large, then its result."""
        image_id = upload.image_id
        result = pb.ImageResult(image_id=image_id)
        if outcome.report is not None:
            result.metrics.CopyFrom(converters.metrics_to_message(outcome.report))
            self._stage_seconds.update(outcome.report.seconds)
        if outcome.error is not None:
            self._failures[outcome.error.reason] += 1
            result.error.CopyFrom(converters.error_to_status(outcome.error))
        image = b""
        if outcome.cutout is not None:
            self._succeeded += 1
            result.cutout.CopyFrom(converters.cutout_to_message(outcome.cutout))
            if len(result.cutout.image) > CUTOUT_CHUNK_BYTES:
                image = outcome.cutout.image
                result.cutout.image = b""
        async with self._write_lock:
            for start in range(0, len(image), CUTOUT_CHUNK_BYTES):
                part = pb.CutoutChunk(image_id=image_id, data=image[start : start + CUTOUT_CHUNK_BYTES])
                await self._send(pb.StreamRemoveBackgroundResponse(cutout_chunk=part))
            # From here on the client may have seen the answer and use the id again.
            self._unanswered.discard(image_id)
            await self._send(pb.StreamRemoveBackgroundResponse(image=result))
        upload.observed.end(outcome)

    async def _send(self, message: pb.StreamRemoveBackgroundResponse) -> None:
        await send(self._context, message, self._limits.pause_seconds)

    def _raise_fault(self) -> None:
        fault = self._fault.result() if self._fault.done() else None
        if fault is not None:
            raise fault

    def _summary(self, *, draining: bool) -> pb.StreamSummary:
        failed = self._failures.total()
        return pb.StreamSummary(
            image_count=self._succeeded + failed,
            succeeded_count=self._succeeded,
            failed_count=failed,
            failed_by_reason=self._failures,
            elapsed=converters.seconds_to_duration(time.perf_counter() - self._started),
            stages=converters.durations_to_message(self._stage_seconds),
            draining=draining,
        )

    def _check_id(self, image_id: str) -> None:
        size = len(image_id.encode())
        if not 1 <= size <= converters.MAX_IMAGE_ID_BYTES:
            text = f"image_id must have 1 to {converters.MAX_IMAGE_ID_BYTES} bytes, not {size}"
            raise ProtocolViolationError(text, measured=size, limit=converters.MAX_IMAGE_ID_BYTES)
        if image_id in self._unanswered:
            raise ProtocolViolationError("image_id is in use by an unanswered image", image_id=image_id)

    def _size_of(self, chunk: pb.ImageChunk) -> int:
        """Gives the bytes that the image announces, or has when its only chunk says none."""
        if not chunk.HasField("size_bytes") and not chunk.last:
            raise _violation("size_bytes", "is required for an image of more than one chunk")
        size = int(chunk.size_bytes) if chunk.HasField("size_bytes") else len(chunk.data)
        if size < 0:
            raise _violation("size_bytes", f"{size} is below 0")
        if size > self._limits.max_image_bytes:
            raise ImageTooLargeError.of_bytes("the image", size, self._limits.max_image_bytes)
        return size

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts something that ends with the stream at the latest."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _too_many_chunks(limit: int) -> ImageTooLargeError:
    text = f"the image comes in more than {limit} chunks; 256 KiB to 1 MiB a chunk is fastest"
    return ImageTooLargeError(text, limit=limit, measured=limit + 1, unit="chunks")


def _violation(name: str, description: str) -> InvalidOptionsError:
    return InvalidOptionsError([FieldViolation(name, description)])
