"""The three methods of the API: convert, delegate, map errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc
from cutstream_server import __version__
from cutstream_server.errors import CutstreamError, DrainingError, ImageTooLargeError, OutputTooLargeError
from cutstream_server.imaging.formats import readable_formats
from cutstream_server.imaging.presets import Preset
from cutstream_server.rpc import converters
from cutstream_server.rpc.admission import Admission
from cutstream_server.rpc.stream import (
    MAX_CHUNK_BYTES,
    StreamContext,
    StreamLimits,
    StreamSession,
)
from cutstream_server.service import Outcome, Service, internal_fault
from cutstream_server.settings import Settings

logger = logging.getLogger(__name__)

# gRPC clients refuse messages over 4 MiB unless told otherwise; 64 KiB are left for metrics and framing.
MAX_UNARY_CUTOUT_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024
# Longest pause in the middle of an image: as the API says.
UPLOAD_TIMEOUT_SECONDS: Final = 30.0
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

UnaryContext: TypeAlias = "grpc.aio.ServicerContext[pb.RemoveBackgroundRequest, pb.RemoveBackgroundResponse]"
InfoContext: TypeAlias = "grpc.aio.ServicerContext[pb.GetServerInfoRequest, pb.GetServerInfoResponse]"
AnyContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class Backend:
    """What `GetServerInfo` tells of Triton: asked anew for each call."""

    embedded: bool
    ready: bool
    versions: dict[str, str]


class BackgroundRemovalServicer(cutstream_pb2_grpc.BackgroundRemovalServiceServicer):
    """Implements the API.

    Args:
        service: processes the images.
        admission: the budget of the whole process.
        draining: set when the server stops.
        settings: limits and defaults.
        presets: the framing presets.
        backend: asks for the state of Triton.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission,
        draining: asyncio.Event,
        settings: Settings,
        presets: Sequence[Preset],
        backend: Callable[[], Awaitable[Backend]],
    ) -> None:
        self._service = service
        self._admission = admission
        self._draining = draining
        self._settings = settings
        self._presets = presets
        self._backend = backend

    async def RemoveBackground(  # noqa: N802 - named by the API
        self, request: pb.RemoveBackgroundRequest, context: UnaryContext
    ) -> pb.RemoveBackgroundResponse:
        """Cuts the object out of one image."""
        async with _errors_to(context):
            outcome = await self._process_one(request, context)
            metrics = None if outcome.report is None else converters.metrics_to_message(outcome.report)
            if outcome.error is not None:
                await _abort(context, outcome.error, metrics)
            assert outcome.cutout is not None
            cutout = converters.cutout_to_message(outcome.cutout)
            if len(cutout.image) > MAX_UNARY_CUTOUT_BYTES:
                await _abort(context, _output_too_large(len(cutout.image)), metrics)
            return pb.RemoveBackgroundResponse(image_id=request.image_id, cutout=cutout, metrics=metrics)

    async def _process_one(self, request: pb.RemoveBackgroundRequest, context: UnaryContext) -> Outcome:
        if self._draining.is_set():
            raise DrainingError("the server is stopping; ask another one")
        converters.check_image_id(request.image_id)
        options = self._service.options.resolve(converters.options_from_message(request.options))
        size, limit = len(request.image), self._settings.max_image_bytes
        if size > limit:
            raise ImageTooLargeError.of_bytes("the image", size, limit)
        place = self._admission.admit_now(size)
        try:
            return await self._service.process(request.image, options, time_left=context.time_remaining())
        finally:
            place.release()

    # The stubs know handlers that are generators only; gRPC also awaits one that reads and writes through the context.
    async def StreamRemoveBackground(  # type: ignore[override]  # noqa: N802 - named by the API
        self, request_iterator: AsyncIterator[pb.StreamRemoveBackgroundRequest], context: StreamContext
    ) -> None:
        """Cuts the object out of many images."""
        del request_iterator  # The session reads through the context, which tells the end from a cancellation.
        limits = StreamLimits(
            max_image_bytes=self._settings.max_image_bytes,
            max_images=self._settings.max_in_flight_per_stream,
            upload_timeout_seconds=UPLOAD_TIMEOUT_SECONDS,
        )
        async with _errors_to(context):
            await StreamSession(self._service, self._admission, self._draining, context, limits).run()

    async def GetServerInfo(  # noqa: N802 - named by the API
        self, request: pb.GetServerInfoRequest, context: InfoContext
    ) -> pb.GetServerInfoResponse:
        """Tells what this server is, can do and allows."""
        del request
        async with _errors_to(context):
            backend = await self._backend()
            state = pb.MODEL_STATE_READY if backend.ready else pb.MODEL_STATE_UNAVAILABLE
            return pb.GetServerInfoResponse(
                version=__version__,
                models=[
                    pb.ModelInfo(name=name, version=backend.versions.get(name, ""), state=state)
                    for name in sorted(self._service.models)
                ],
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
                triton=pb.TritonInfo(embedded=backend.embedded, ready=backend.ready, transport="grpc"),
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
            upload_timeout=converters.seconds_to_duration(UPLOAD_TIMEOUT_SECONDS),
        )


def _output_too_large(measured: int) -> OutputTooLargeError:
    limit = MAX_UNARY_CUTOUT_BYTES
    text = f"the cutout has {measured} bytes and a unary answer holds {limit}; use StreamRemoveBackground"
    return OutputTooLargeError(text, limit=limit, measured=measured, unit="bytes")


@asynccontextmanager
async def _errors_to(context: AnyContext) -> AsyncIterator[None]:
    """Ends the call with the Status of what is raised inside; faults of ours are logged and their text kept back."""
    try:
        yield
    except CutstreamError as error:
        await _abort(context, error)
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        if context.cancelled():  # Writing to a client that has gone raises; that is no fault of ours.
            logger.debug("the client has gone", exc_info=error)
            raise
        await _abort(context, internal_fault(error))


async def _abort(context: AnyContext, error: CutstreamError, metrics: pb.Metrics | None = None) -> NoReturn:
    status = converters.error_to_status(error, metrics)
    trailer = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(converters.STATUS_CODES[error.reason], error.message, trailer)
