"""The three methods of the API: convert, delegate, map errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc
from cutstream_server import __version__
from cutstream_server.errors import (
    CutstreamError,
    DrainingError,
    ImageTooLargeError,
    OutputTooLargeError,
    OverloadedError,
    ProtocolViolationError,
)
from cutstream_server.imaging.formats import readable_formats
from cutstream_server.imaging.presets import Preset
from cutstream_server.rpc import converters
from cutstream_server.rpc.admission import RETRY_AFTER_SECONDS, Admission
from cutstream_server.rpc.handlers import receive, send
from cutstream_server.rpc.stream import MAX_CHUNK_BYTES, StreamContext, StreamSession
from cutstream_server.service import Outcome, Service, internal_fault
from cutstream_server.settings import Settings
from cutstream_server.telemetry.images import ObservedImage, Telemetry

logger = logging.getLogger(__name__)

# gRPC clients refuse messages over 4 MiB unless told otherwise; 64 KiB are left for metrics and framing.
MAX_UNARY_CUTOUT_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024

UnaryContext: TypeAlias = "grpc.aio.ServicerContext[pb.RemoveBackgroundRequest, pb.RemoveBackgroundResponse]"
InfoContext: TypeAlias = "grpc.aio.ServicerContext[pb.GetServerInfoRequest, pb.GetServerInfoResponse]"
AnyContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class Backend:
    """What `GetServerInfo` tells of Triton: asked anew for each call."""

    embedded: bool
    ready: bool
    versions: dict[str, str]
    transport: str = ""


class BackgroundRemovalServicer(cutstream_pb2_grpc.BackgroundRemovalServiceServicer):
    """Implements the API.

    Args:
        service: processes the images.
        admission: the budget of the whole process.
        draining: set when the server stops.
        settings: limits and defaults.
        presets: the framing presets.
        backend: asks for the state of Triton.
        telemetry: is told about images and streams.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission,
        draining: asyncio.Event,
        settings: Settings,
        presets: Sequence[Preset],
        backend: Callable[[], Awaitable[Backend]],
        telemetry: Telemetry,
    ) -> None:
        self._service = service
        self._admission = admission
        self._draining = draining
        self._settings = settings
        self._presets = presets
        self._backend = backend
        self._telemetry = telemetry
        self._streams = 0

    # All methods are served as streams: see `rpc/handlers.py`.
    async def RemoveBackground(  # type: ignore[override]  # noqa: N802 - named by the API
        self, request_iterator: AsyncIterator[bytes], context: UnaryContext
    ) -> None:
        """Cuts the object out of one image."""
        del request_iterator
        image = ObservedImage.in_call(self._telemetry)
        async with _errors_to(context), _told_to(image):
            if self._draining.is_set():
                raise DrainingError("the server is stopping; ask another one")
            # Nobody says how large the request is. So it is not read before the largest one would fit.
            place = await self._admission.admit_soon(self._settings.max_image_bytes)
            image.admitted()
            try:
                request = await receive(context, pb.RemoveBackgroundRequest, self._settings.upload_seconds)
                if request is None:
                    raise ProtocolViolationError("the call has no request")
                place.change(amount=len(request.image))
                image.received(len(request.image), request.image_id)
                outcome = await self._process_one(request, context)
                image.end(outcome)
                place.change(amount=len(outcome.cutout.image) if outcome.cutout else 0, counts=False)
                await self._answer(request.image_id, outcome, context)
            finally:
                place.release()

    async def _answer(self, image_id: str, outcome: Outcome, context: UnaryContext) -> None:
        metrics = None if outcome.report is None else converters.metrics_to_message(outcome.report)
        if outcome.error is not None:
            await converters.abort(context, outcome.error, metrics)
        assert outcome.cutout is not None
        cutout = converters.cutout_to_message(outcome.cutout)
        answer = pb.RemoveBackgroundResponse(image_id=image_id, cutout=cutout, metrics=metrics)
        await send(context, answer, self._settings.pause_seconds)

    async def _process_one(self, request: pb.RemoveBackgroundRequest, context: UnaryContext) -> Outcome:
        converters.check_image_id(request.image_id)
        options = self._service.options.resolve(converters.options_from_message(request.options))
        size, limit = len(request.image), self._settings.max_image_bytes
        if size > limit:
            raise ImageTooLargeError.of_bytes("the image", size, limit)
        outcome = await self._service.process(request.image, options, time_left=context.time_remaining())
        if outcome.cutout is not None and len(outcome.cutout.image) > MAX_UNARY_CUTOUT_BYTES:
            return Outcome(outcome.report, error=_output_too_large(len(outcome.cutout.image)))
        return outcome

    async def StreamRemoveBackground(  # type: ignore[override]  # noqa: N802 - named by the API
        self, request_iterator: AsyncIterator[pb.StreamRemoveBackgroundRequest], context: StreamContext
    ) -> None:
        """Cuts the object out of many images."""
        del request_iterator  # The session reads through the context, which tells the end from a cancellation.
        async with _errors_to(context), self._one_of_the_streams():
            await StreamSession(
                self._service, self._admission, self._draining, context, self._settings, self._telemetry
            ).run()

    @asynccontextmanager
    async def _one_of_the_streams(self) -> AsyncIterator[None]:
        """Counts a stream: what it has sent and nobody has read yet is memory, however idle it is."""
        limit = self._settings.max_streams
        if self._streams >= limit:
            raise OverloadedError(
                "the server has as many open streams as it may",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                streams=self._streams,
                max_streams=limit,
            )
        self._streams += 1
        self._telemetry.metrics.streams_open.add(1)
        try:
            yield
        finally:
            self._streams -= 1
            self._telemetry.metrics.streams_open.add(-1)

    async def GetServerInfo(  # type: ignore[override]  # noqa: N802 - named by the API
        self, request_iterator: AsyncIterator[bytes], context: InfoContext
    ) -> None:
        """Tells what this server is, can do and allows."""
        del request_iterator
        async with _errors_to(context):
            await receive(context, pb.GetServerInfoRequest, self._settings.pause_seconds)
            await send(context, await self._info(), self._settings.pause_seconds)

    async def _info(self) -> pb.GetServerInfoResponse:
        backend = await self._backend()
        return pb.GetServerInfoResponse(
            version=__version__,
            models=converters.models_to_messages(self._service.models, backend.versions, ready=backend.ready),
            default_options=converters.options_to_message(self._service.options.resolve({}).model_dump()),
            presets=[
                pb.PresetInfo(
                    name=preset.name,
                    description=preset.description,
                    options=converters.options_to_message(preset.options),
                )
                for preset in self._presets
            ],
            limits=self._limits(),
            triton=pb.TritonInfo(embedded=backend.embedded, ready=backend.ready, transport=backend.transport),
            input_formats=readable_formats(),
        )

    def _limits(self) -> pb.ServerLimits:
        settings = self._settings
        return pb.ServerLimits(
            max_image_bytes=settings.max_image_bytes,
            max_image_pixels=settings.max_image_pixels,
            max_in_flight=settings.max_in_flight,
            max_bytes_in_flight=settings.max_bytes_in_flight,
            max_chunk_bytes=MAX_CHUNK_BYTES,
            max_unary_cutout_bytes=MAX_UNARY_CUTOUT_BYTES,
            image_timeout=converters.seconds_to_duration(settings.image_timeout_seconds),
            upload_timeout=converters.seconds_to_duration(settings.pause_seconds),
        )


def _output_too_large(measured: int) -> OutputTooLargeError:
    limit = MAX_UNARY_CUTOUT_BYTES
    text = f"the cutout has {measured} bytes and a unary answer holds {limit}; use StreamRemoveBackground"
    return OutputTooLargeError(text, limit=limit, measured=measured, unit="bytes")


@asynccontextmanager
async def _told_to(image: ObservedImage) -> AsyncIterator[None]:
    """Makes the image the current one, and ends it with what is raised inside unless it has ended."""
    with image.active():
        try:
            yield
        except CutstreamError as error:
            image.end(Outcome(error=error))
            raise
        except Exception as error:
            if image.ended:
                raise
            fault = internal_fault(error)
            image.end(Outcome(error=fault))
            raise fault from error
        finally:
            image.end(None)


@asynccontextmanager
async def _errors_to(context: AnyContext) -> AsyncIterator[None]:
    """Ends the call with the Status of what is raised inside; faults of ours are logged and their text kept back."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        if context.cancelled():  # Writing to a client that has gone raises; that is no fault of ours.
            logger.debug("the client has gone", exc_info=error)
            raise
        await _tell(context, error if isinstance(error, CutstreamError) else internal_fault(error))


async def _tell(context: AnyContext, error: CutstreamError) -> None:
    try:
        await converters.abort(context, error)
    except grpc.aio.AbortError:
        raise
    except Exception as broken:
        if not context.cancelled():
            raise
        logger.debug("the client has gone before it was told: %s", error, exc_info=broken)
