"""The gRPC server: the service's methods, health and reflection on one port; starts, drains and stops in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import replace
from typing import Final

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.budget import Budget
from cutstream_server.decoding.pool import DecoderPool
from cutstream_server.errors import CutstreamError
from cutstream_server.imaging.presets import PRESETS, PRESETS_BY_NAME
from cutstream_server.limits import MIB
from cutstream_server.memory import trim_own_memory, trim_when_idle
from cutstream_server.options import OptionResolver
from cutstream_server.pipeline import Pipeline
from cutstream_server.rpc.admission import Admission
from cutstream_server.rpc.handlers import add_handlers
from cutstream_server.rpc.interceptors import TelemetryInterceptor
from cutstream_server.rpc.security.interceptor import TokenInterceptor
from cutstream_server.rpc.security.tls import TLSFiles, server_credentials
from cutstream_server.rpc.security.tokens import Tokens
from cutstream_server.rpc.security.watched import SecurityFileError
from cutstream_server.rpc.servicer import Backend, BackgroundRemovalServicer
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.keeper import IndexKeeper, ModelKeeper, RepositoryKeeper
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.segmentation.segmenter import Segmenter
from cutstream_server.segmentation.triton import TritonClient
from cutstream_server.service import Service
from cutstream_server.settings import Settings
from cutstream_server.telemetry.images import Telemetry
from cutstream_server.workers import Workers

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"].full_name
# Besides its image a request holds options and an id.
REQUEST_OVERHEAD_BYTES: Final = MIB
# Clients may ping an idle connection this often; with gRPC's own default of 5 minutes balancers drop streams first.
LEAST_PING_INTERVAL_MS: Final = 10_000
# As often as most firewalls and balancers forget idle connections at the earliest.
PING_INTERVAL_MS: Final = 60_000
PING_TIMEOUT_MS: Final = 20_000
# Decoded images wait for Triton beside the ones that the workers hold, so that it never waits for them.
DECODED_PER_WORKER: Final = 3


class StartError(Exception):
    """The service cannot start; the text says why and what to do."""


class Server:
    """The running service.

    Args:
        settings: the environment.
        models: the Triton that serves the networks; started and stopped with the service.
        catalog: the networks that may be asked for.
        telemetry: is told what happens.
    """

    def __init__(self, settings: Settings, models: ModelServer, catalog: ModelCatalog, telemetry: Telemetry) -> None:
        self._settings = settings
        self._models = models
        self._triton = TritonClient(models)
        self._workers = Workers(cores())
        self._decoders = DecoderPool(max_pixels=settings.max_image_pixels, seconds=settings.decode_seconds)
        pipeline = Pipeline(
            Segmenter(self._triton, self._workers, catalog),
            self._workers,
            self._decoders.decode,
            limits=settings.image,
            decoded=Budget(cores() * DECODED_PER_WORKER, settings.max_pixels_in_flight),
        )
        resolver = OptionResolver(
            PRESETS_BY_NAME,
            settings.option_values,
            settings.image_timeout_seconds,
        )
        telemetry = replace(telemetry, defaults=resolver.resolve({}))
        admission = Admission(settings.max_in_flight, settings.max_bytes_in_flight)
        telemetry.metrics.watch_admission(admission)
        telemetry.metrics.watch_triton(models)
        self._admission = admission
        self._draining = asyncio.Event()
        self._health = health.aio.HealthServicer()
        self._grpc = grpc.aio.server(
            interceptors=_interceptors(settings, telemetry), options=_channel_options(settings)
        )
        servicer = BackgroundRemovalServicer(
            Service(pipeline, resolver, catalog),
            admission,
            self._draining,
            settings,
            PRESETS,
            self._backend,
            telemetry,
        )
        add_handlers(servicer, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if settings.reflection:
            # With the error details, so that grpcurl prints them instead of bytes.
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            assert error_details_pb2.DESCRIPTOR.name
            reflection.enable_server_reflection(names, self._grpc)
        self._health_tasks: set[asyncio.Future[None]] = set()
        self._trimming: asyncio.Task[None] | None = None
        self._keeper: ModelKeeper = (
            RepositoryKeeper(models, catalog, settings.model_repository, settings.model)
            if isinstance(models, EmbeddedTriton)
            else IndexKeeper(self._triton, catalog, settings.model)
        )
        self._keeping: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Listens at once, with health NOT_SERVING, and returns when Triton answers or, if it is not ours, is watched.

        Raises:
            StartError: the address cannot be used, or the embedded Triton does not start.
        """
        await self._set_health(serving=False)
        host = self._settings.listen.rpartition(":")[0]
        try:
            port = self._open_port()
        except SecurityFileError as error:
            raise StartError(str(error)) from error
        except RuntimeError as error:
            text = f"cannot listen on CUTSTREAM_LISTEN={self._settings.listen}: is another server running there?"
            raise StartError(text) from error
        self.address = f"{host}:{port}"
        await asyncio.to_thread(self._decoders.start)
        await self._grpc.start()
        self._trimming = asyncio.create_task(trim_when_idle(self._admission.work_done, self._trim))
        self._models.subscribe(self._on_state)
        await self._models.start()
        self._keeping = asyncio.create_task(self._keeper.run())
        logger.info("serving on %s", self.address)

    async def stop(self) -> None:
        """Drains: tells health, accepts nothing, answers what is accepted within the drain time, then stops Triton."""
        logger.info("draining for at most %g s", self._settings.drain_seconds)
        self._draining.set()
        if self._trimming is not None:
            self._trimming.cancel()
            await asyncio.gather(self._trimming, return_exceptions=True)
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(self._settings.drain_seconds)
        await self._triton.close()
        await self._models.stop()
        self._workers.close()
        self._decoders.close()
        logger.info("stopped")

    @property
    def busy(self) -> bool:
        """Whether something computes still, for images that were given up."""
        return self._workers.busy

    def _open_port(self) -> int:
        settings = self._settings
        if settings.tls_cert is not None and settings.tls_key is not None:
            files = TLSFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
            return self._grpc.add_secure_port(settings.listen, server_credentials(files))
        if settings.leaves_the_machine_in_plain_text:
            what = "images and tokens" if settings.tokens_file is not None else "images"
            logger.warning("CUTSTREAM_ALLOW_INSECURE: whoever is on the way to %s can read %s", settings.listen, what)
        return self._grpc.add_insecure_port(settings.listen)

    def _trim(self) -> None:
        self._decoders.trim()
        trim_own_memory()

    def _on_state(self, state: ServerState) -> None:
        task = asyncio.ensure_future(self._set_health(serving=state is ServerState.READY))
        self._health_tasks.add(task)
        task.add_done_callback(self._health_tasks.discard)

    async def _set_health(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (health.OVERALL_HEALTH, SERVICE_NAME):
            await self._health.set(name, status)

    async def _backend(self) -> Backend:
        """Asks Triton which versions it serves; a Triton that does not answer is not ready."""
        try:
            versions = await self._triton.ready_models()
            transport = await self._triton.transport(self._settings.model)
        except CutstreamError as error:
            logger.info("Triton did not list its models: %s", error)
            return Backend(embedded=self._models.embedded, ready=False, versions={})
        return Backend(self._models.embedded, self._models.ready, versions, transport)


async def run_server(server: Server) -> None:
    """Runs a server until SIGTERM or SIGINT, then drains it.

    Raises:
        StartError: see `Server.start`.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    start = asyncio.ensure_future(server.start())
    stop = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            await stop
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
    finally:
        await server.stop()


def cores() -> int:
    """Gives the processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _interceptors(settings: Settings, telemetry: Telemetry) -> list[grpc.aio.ServerInterceptor]:
    """Chooses what every call passes through first.

    Raises:
        StartError: the file of tokens cannot be used.
    """
    first = TelemetryInterceptor(telemetry)
    if settings.tokens_file is None:
        return [first]
    try:
        return [first, TokenInterceptor(Tokens(settings.tokens_file))]
    except SecurityFileError as error:
        raise StartError(str(error)) from error


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Else a second server would bind the same port silently and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_image_bytes + REQUEST_OVERHEAD_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        # A client whose machine has vanished says nothing: only a ping tells, and its streams would stay for ever.
        ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
