"""Every image of every call ends in the figures once, with its true reason, however its call ends."""

import asyncio

import grpc
import pytest

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.telemetry.images import current_image

CONFIG = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig())
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def chunk(image_id, data=b"data", **fields):
    made = pb.ImageChunk(image_id=image_id, data=data, **{"last": True, **fields})
    return pb.StreamRemoveBackgroundRequest(chunk=made)


def images(harness):
    return harness.observer.counts("cutstream.images")


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def remove(harness, data=b"data", **fields):
    return await harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=data, **fields))


async def test_a_good_call(harness):
    await remove(harness)
    assert images(harness) == {("ok",): 1}


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"data": b"broken"}, "IMAGE_UNDECODABLE"),
        ({"data": b"fault"}, "INTERNAL_FAULT"),
        ({"image_id": "x" * 300}, "INVALID_OPTIONS"),
        ({"data": bytes(10_000_001)}, "IMAGE_TOO_LARGE"),
        ({"data": bytes(5_000_000)}, "OUTPUT_TOO_LARGE"),
    ],
)
async def test_a_failed_call(harness, request_fields, reason):
    with pytest.raises(grpc.aio.AioRpcError):
        await remove(harness, **request_fields)
    assert images(harness) == {("error", reason): 1}
    assert harness.observer.span("image").attributes["cutstream.reason"] == reason


async def test_a_call_while_draining(harness):
    harness.draining.set()
    with pytest.raises(grpc.aio.AioRpcError):
        await remove(harness)
    assert images(harness) == {("error", "DRAINING"): 1}


async def test_a_call_that_is_refused_for_load(harness, monkeypatch):
    monkeypatch.setattr("cutstream_server.rpc.admission.UNARY_WAIT_SECONDS", 0.01)
    harness.observer.telemetry.metrics.watch_admission(harness.admission)
    for _ in range(4):
        await harness.admission.admit(1)
    with pytest.raises(grpc.aio.AioRpcError):
        await remove(harness)
    assert images(harness) == {("error", "OVERLOADED"): 1}
    names = ("admission.rejected", "images.in_flight", "bytes.in_flight", "images.waiting")
    figures = {name: harness.observer.counts(f"cutstream.{name}")[()] for name in names}
    assert figures == {"admission.rejected": 1, "images.in_flight": 4, "bytes.in_flight": 4, "images.waiting": 0}


async def test_a_cancelled_call(harness):
    task = asyncio.create_task(remove(harness, b"slow"))
    await until(lambda: harness.service.running)
    task.cancel()
    await until(lambda: images(harness))
    assert images(harness) == {("error", "CANCELLED"): 1}


async def test_each_image_of_a_stream(harness):
    await harness.exchange(
        CONFIG,
        chunk("good"),
        chunk("broken", b"broken"),
        chunk("unsized", last=False),
        chunk("unsized"),
        chunk("short", size_bytes=9),
        chunk("unfinished", last=False, size_bytes=9),
    )
    assert images(harness) == {
        ("ok",): 1,
        ("error", "IMAGE_UNDECODABLE"): 1,
        ("error", "INVALID_OPTIONS"): 1,
        ("error", "INCOMPLETE_IMAGE"): 2,
    }
    assert len(harness.observer.spans("image")) == 5


async def test_an_image_of_a_stream_continues_its_own_trace(harness):
    await harness.exchange(CONFIG, chunk("a", traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01"), chunk("b"))
    spans = {span.attributes["cutstream.image.id"]: span for span in harness.observer.spans("image")}
    stream = harness.observer.span("cutstream.v1.BackgroundRemovalService/StreamRemoveBackground")
    assert f"{spans['a'].parent.span_id:016x}" == SPAN_ID
    assert spans["b"].parent is None
    assert {link.context.span_id for span in spans.values() for link in span.links} == {stream.context.span_id}


async def test_images_of_a_stream_whose_client_goes_away(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(CONFIG)
    await call.write(chunk("working", b"slow"))
    await call.write(chunk("uploading", last=False, size_bytes=9))
    await until(lambda: harness.service.running)
    await until(lambda: harness.admission.images == 2)
    assert harness.observer.counts("cutstream.streams.open") == {(): 1}
    call.cancel()
    await until(lambda: sum(images(harness).values()) == 2)
    assert images(harness) == {("error", "CANCELLED"): 2}
    await until(lambda: harness.observer.counts("cutstream.streams.open") == {(): 0})


async def test_a_fault_is_logged_while_its_image_is_the_current_one(harness, monkeypatch):
    seen = []
    monkeypatch.setattr("cutstream_server.service.logger.error", lambda *_, **__: seen.append(current_image().image_id))
    with pytest.raises(grpc.aio.AioRpcError):
        await remove(harness, b"fault", image_id="cat.jpg")
    assert seen == ["cat.jpg"]
