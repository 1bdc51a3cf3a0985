"""A scripted Cutstream server on a real loopback port: each test says how it answers."""

# ruff: noqa: N802 - gRPC names the methods
from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cutstream import Client, RetryConfig
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc as pb_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass
class Received:
    """One complete image as the server saw it."""

    image_id: str
    data: bytes
    options: pb.RemovalOptions
    size_bytes: int
    chunk_sizes: list[int]
    stream: int
    """Number of the stream that brought it, from 1."""
    attempt: int
    """How often this id was received, from 1."""
    traceparent: str = ""


@dataclass
class EndStream:
    """Ends the stream with this status in the place of an answer; None: with OK and no summary."""

    status: status_pb2.Status | None


Response = pb.StreamRemoveBackgroundResponse
Script = Callable[[Received], Awaitable["list[Response] | EndStream"]]


def status(
    reason: str | None, code: grpc.StatusCode, *, retry_seconds: float | None = None, **metadata: str
) -> status_pb2.Status:
    """A Status as the server's contract has it; without a reason one as a proxy or gRPC itself sends."""
    if reason is None:
        return status_pb2.Status(code=code.value[0], message="broken off")
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="cutstream", metadata=metadata)]
    if retry_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        message = AnyMessage()
        message.Pack(detail)
        packed.append(message)
    return status_pb2.Status(code=code.value[0], message=f"about {reason}", details=packed)


def cutout(data: bytes) -> pb.Cutout:
    """A cutout of these bytes."""
    crop = pb.CropBox(left_px=-1.5, top_px=2, width_px=30, height_px=30)
    return pb.Cutout(image=data, media_type="image/png", width_px=518, height_px=518, crop=crop)


def metrics() -> pb.Metrics:
    """Metrics with one measured value and the defaults that decide the layout of raw samples."""
    options = pb.RemovalOptions(channels=pb.CHANNELS_RGBA, sample_type=pb.SAMPLE_TYPE_UINT8)
    return pb.Metrics(alpha_coverage=0.25, validation=pb.VALIDATION_OK, effective_options=options)


def success(image: Received) -> list[Response]:
    """The answer of a working server: the cutout's bytes are the image's, backwards."""
    result = pb.ImageResult(image_id=image.image_id, cutout=cutout(image.data[::-1]), metrics=metrics())
    return [Response(image=result)]


def failure(image: Received, reason: str, code: grpc.StatusCode, **details: object) -> list[Response]:
    """The answer to an image that fails."""
    error = status(reason, code, **details)
    return [Response(image=pb.ImageResult(image_id=image.image_id, error=error, metrics=metrics()))]


async def answer_at_once(image: Received) -> list[Response]:
    return success(image)


@dataclass
class FakeServer(pb_grpc.BackgroundRemovalServiceServicer):
    """The server; the attributes say what it does and what it saw."""

    script: Script = answer_at_once
    unary: Callable[[pb.RemoveBackgroundRequest, int], pb.RemoveBackgroundResponse | status_pb2.Status] = field(
        default=lambda request, _: pb.RemoveBackgroundResponse(
            image_id=request.image_id, cutout=cutout(request.image[::-1]), metrics=metrics()
        )
    )
    refusal: status_pb2.Status | None = None
    """Answers every stream, instead of reading it."""
    health: int = SERVING
    server_info: pb.GetServerInfoResponse = field(default_factory=pb.GetServerInfoResponse)

    received: list[Received] = field(default_factory=list)
    stream_configs: list[pb.StreamConfig] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    traceparents: list[str] = field(default_factory=list)
    """Of the calls, in their metadata."""
    unary_calls: int = 0
    unary_seconds_left: list[float | None] = field(default_factory=list)
    unanswered: int = 0
    max_unanswered: int = 0
    cancelled_streams: int = 0
    clean_streams: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    credentials: grpc.ServerCredentials | None = None

    success = staticmethod(success)
    failure = staticmethod(failure)
    cutout = staticmethod(cutout)
    metrics = staticmethod(metrics)
    status = staticmethod(status)
    end_stream = EndStream
    response = Response

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        self._run(self._start())

    def kill(self) -> None:
        """Cuts every connection without a word and frees the port."""
        self._run(self._server.stop(None))

    def shut_down(self) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_BackgroundRemovalServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(FakeHealth(self), self._server)
        address = self.target
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        await self._server.start()

    async def GetServerInfo(self, request, context):
        return self.server_info

    async def RemoveBackground(self, request, context):
        self.unary_calls += 1
        self.unary_seconds_left.append(context.time_remaining())
        self._note_token(context)
        answer = self.unary(request, self.unary_calls)
        if isinstance(answer, status_pb2.Status):
            await abort(context, answer)
        return answer

    async def StreamRemoveBackground(self, request_iterator, context):
        self._note_token(context)
        if self.refusal is not None:
            await abort(context, self.refusal)
        stream = len(self.stream_configs) + 1
        answers: asyncio.Queue[list[Response] | EndStream | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(request_iterator, stream, answers))
        mine = 0
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, EndStream):
                    if answer.status is None:
                        return
                    await abort(context, answer.status)
                for response in answer:
                    if response.HasField("image"):
                        self.unanswered -= 1
                        mine += 1
                    yield response
            # A cancelled stream first ends its requests, as if the client had finished, and then raises here.
            await asyncio.sleep(0.02)
            yield Response(summary=pb.StreamSummary(image_count=mine))
            self.clean_streams += 1
        except (asyncio.CancelledError, GeneratorExit):  # the latter when it was sending an answer
            self.cancelled_streams += 1
            raise
        finally:
            reader.cancel()
            self.unanswered = 0

    async def _read(self, requests, stream, answers):
        working = []
        image = None
        async for request in requests:
            if request.HasField("config"):
                self.stream_configs.append(request.config)
                continue
            chunk = request.chunk
            if image is None:
                attempt = 1 + sum(earlier.image_id == chunk.image_id for earlier in self.received)
                image = Received(
                    chunk.image_id, b"", chunk.options, chunk.size_bytes, [], stream, attempt, chunk.traceparent
                )
                self.unanswered += 1
                self.max_unanswered = max(self.max_unanswered, self.unanswered)
            image.data += chunk.data
            image.chunk_sizes.append(len(chunk.data))
            if chunk.last:
                self.received.append(image)
                working.append(asyncio.create_task(self._work(image, answers)))
                image = None
        await asyncio.gather(*working)
        answers.put_nowait(None)

    async def _work(self, image, answers):
        answers.put_nowait(await self.script(image))

    def _note_token(self, context: grpc.aio.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.append(metadata.get("authorization", ""))
        self.traceparents.append(metadata.get("traceparent", ""))


class FakeHealth(health_pb2_grpc.HealthServicer):
    """Knows the one service only."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def Check(self, request, context):
        if request.service != "cutstream.v1.BackgroundRemovalService":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._server.health)

    async def Watch(self, request, context):
        while True:
            yield await self.Check(request, context)
            await asyncio.sleep(0.05)


async def abort(context: grpc.aio.ServicerContext, failed: status_pb2.Status) -> None:
    """Ends the call with a Status in the trailer, as grpcio-status would."""
    if failed.details:
        context.set_trailing_metadata((("grpc-status-details-bin", failed.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == failed.code)
    await context.abort(code, failed.message)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.start()
    yield fake
    fake.shut_down()


@pytest.fixture
def fast_retry() -> RetryConfig:
    """Waits that a test does not notice; the number of attempts is the default's."""
    return RetryConfig(initial_backoff_seconds=0.001, max_backoff_seconds=0.01, unreachable_seconds=5)


@pytest.fixture
def client(server: FakeServer, fast_retry: RetryConfig) -> Iterator[Client]:
    with Client(server.target, retry=fast_retry) as connected:
        yield connected
