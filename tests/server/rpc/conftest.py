"""The real gRPC service on a real port, over a pipeline whose answers the test decides."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
from observing import Observer

from cutstream.v1 import cutstream_pb2_grpc
from cutstream_server.errors import ImageUndecodableError
from cutstream_server.imaging.geometry import CropBox
from cutstream_server.options import OptionResolver
from cutstream_server.report import Cutout, ImageReport
from cutstream_server.rpc.admission import Admission
from cutstream_server.rpc.handlers import add_handlers
from cutstream_server.rpc.interceptors import TelemetryInterceptor
from cutstream_server.rpc.servicer import Backend, BackgroundRemovalServicer
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.service import Outcome
from cutstream_server.settings import Settings


@dataclass
class ScriptedService:
    """Answers `broken` with an error, waits for `gate` on images that begin with b"slow", echoes all others.

    What is `work` takes a moment.
    """

    options: OptionResolver
    models: ModelCatalog = field(default_factory=lambda: ModelCatalog({"isnet": ModelRules()}))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    finished: int = 0
    most_running: int = 0

    async def process(self, data, options, *, time_left=None):
        report = ImageReport(options)
        if data == b"broken":
            return Outcome(report, error=ImageUndecodableError("broken on purpose"))
        if data == b"fault":
            raise RuntimeError("secret text of a fault")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if data.startswith(b"slow"):
                await self.gate.wait()
            if data == b"work":
                await asyncio.sleep(0.005)
        finally:
            self.running -= 1
            self.finished += 1
        return Outcome(report, cutout=Cutout(data, "image/png", 1, 1, CropBox(0.0, 0.0, 1.0, 1.0)))


@dataclass
class Harness:
    """The service under test and a stub to call it."""

    service: ScriptedService
    admission: Admission
    draining: asyncio.Event
    settings: Settings
    stub: cutstream_pb2_grpc.BackgroundRemovalServiceStub
    observer: Observer
    target: str

    async def exchange(self, *messages):
        """Sends messages on a stream, half-closes, and gives the images' results by id and the summary."""
        call = self.stub.StreamRemoveBackground(iter(messages))
        results, summary, chunks = {}, None, {}
        async for response in call:
            match response.WhichOneof("payload"):
                case "image":
                    assert response.image.image_id not in results
                    results[response.image.image_id] = response.image
                case "cutout_chunk":
                    part = response.cutout_chunk
                    chunks[part.image_id] = chunks.get(part.image_id, b"") + part.data
                case "summary":
                    summary = response.summary
        for image_id, image in chunks.items():
            results[image_id].cutout.image = image
        return results, summary


@pytest.fixture
async def harness(request) -> AsyncIterator[Harness]:
    changes = getattr(request, "param", {})
    settings = Settings(max_image_bytes=10_000_000, max_in_flight=4, max_in_flight_per_stream=3).model_copy(
        update=changes
    )
    service = ScriptedService(OptionResolver({}, {}, settings.image_timeout_seconds))
    admission = Admission(settings.max_in_flight, settings.max_bytes_in_flight)
    draining = asyncio.Event()
    observer = Observer()

    async def backend():
        return Backend(embedded=True, ready=True, versions={"isnet": "1"})

    servicer = BackgroundRemovalServicer(service, admission, draining, settings, (), backend, observer.telemetry)
    interceptors = [TelemetryInterceptor(observer.telemetry)]
    server = grpc.aio.server(interceptors=interceptors, options=[("grpc.max_receive_message_length", 16_000_000)])
    add_handlers(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel)
        yield Harness(service, admission, draining, settings, stub, observer, target)
    service.gate.set()
    await server.stop(1)
