"""Calls as they come over the wire: bytes that are no message, requests that do not come, what waits for the budget."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cutstream.v1 import cutstream_pb2 as pb

SERVICE = "/cutstream.v1.BackgroundRemovalService"
GARBAGE = [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", bytes(range(256))]


def info_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.fixture
async def channel(harness):
    async with grpc.aio.insecure_channel(harness.target) as channel:
        yield channel


@pytest.mark.parametrize("data", GARBAGE[:2], ids=["end", "length"])
@pytest.mark.parametrize("method", ["RemoveBackground", "GetServerInfo"])
async def test_bytes_that_are_no_request_are_a_typed_error(channel, method, data):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"{SERVICE}/{method}")(data)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(caught.value).reason == "PROTOCOL_VIOLATION"


@pytest.mark.parametrize("data", GARBAGE, ids=["end", "length", "text", "any"])
async def test_bytes_that_are_no_message_abort_the_stream(channel, data):
    config = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig()).SerializeToString()
    call = channel.stream_stream(f"{SERVICE}/StreamRemoveBackground")(iter([config, data]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert info_of(caught.value).reason == "PROTOCOL_VIOLATION"


async def test_a_call_without_a_request_is_a_typed_error(channel):
    call = channel.stream_stream(f"{SERVICE}/RemoveBackground")(iter([]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert info_of(caught.value).reason == "PROTOCOL_VIOLATION"


@pytest.mark.parametrize("harness", [{"upload_seconds": 0.2}], indirect=True)
async def test_a_call_that_sends_nothing_ends_and_gives_its_place_back(harness, channel):
    call = channel.stream_stream(f"{SERVICE}/RemoveBackground")()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert info_of(caught.value).reason == "UPLOAD_TIMEOUT"
    assert (harness.admission.images, harness.admission.bytes) == (0, 0)


async def test_a_call_holds_the_bytes_of_its_image_while_it_is_worked_on(harness):
    call = asyncio.ensure_future(harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"slow" + bytes(996))))
    while not harness.service.running:
        await asyncio.sleep(0.01)
    assert (harness.admission.images, harness.admission.bytes) == (1, 1000)
    harness.service.gate.set()
    await call
    assert (harness.admission.images, harness.admission.bytes) == (0, 0)


async def test_a_request_is_not_taken_in_before_the_largest_one_would_fit(harness):
    held = await harness.admission.admit(harness.admission.max_bytes - harness.settings.max_image_bytes + 1)
    call = asyncio.ensure_future(harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=bytes(4_000_000))))
    while not harness.admission.waiting:
        await asyncio.sleep(0.01)
    assert harness.admission.images == 1
    held.release()
    assert len((await call).cutout.image) == 4_000_000


async def test_a_refused_call_is_told_when_to_try_again(harness, monkeypatch):
    monkeypatch.setattr("cutstream_server.rpc.admission.UNARY_WAIT_SECONDS", 0.05)
    await harness.admission.admit(harness.admission.max_bytes)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"x"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(caught.value).reason == "OVERLOADED"
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() > 0


async def test_a_call_to_a_draining_server_is_sent_elsewhere(harness):
    harness.draining.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"x"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info_of(caught.value).reason == "DRAINING"


@pytest.mark.parametrize("harness", [{"max_streams": 2}], indirect=True)
async def test_a_stream_too_many_is_refused_until_another_one_ends(harness):
    config = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig())
    calls = [harness.stub.StreamRemoveBackground() for _ in range(2)]
    for number, call in enumerate(calls):
        await call.write(config)
        await call.write(pb.StreamRemoveBackgroundRequest(chunk=chunk_of(str(number))))
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.exchange(config)
    assert info_of(caught.value).reason == "OVERLOADED"
    assert info_of(caught.value).metadata["max_streams"] == "2"
    await calls[0].done_writing()
    while await calls[0].read() is not grpc.aio.EOF:
        pass
    _, summary = await harness.exchange(config)
    assert summary.image_count == 0
    calls[1].cancel()


def chunk_of(image_id):
    return pb.ImageChunk(image_id=image_id, data=b"A", last=True)
