"""One caller's greed, slowness or absence is not the others' misfortune."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cutstream.v1 import cutstream_pb2 as pb

MIB = 1024 * 1024
CONFIG = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig())


def chunk(image_id, data, *, last=True, **first):
    return pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id=image_id, data=data, last=last, **first))


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


class Greedy:
    """A stream that has the next image ready whenever it may send one."""

    def __init__(self, harness, images):
        self._call = harness.stub.StreamRemoveBackground()
        self._images = images
        self.answered = 0

    async def run(self):
        sending = asyncio.create_task(self._send())
        while (answer := await self._call.read()) is not grpc.aio.EOF:
            self.answered += answer.HasField("image")
        await sending

    async def _send(self):
        await self._call.write(CONFIG)
        for number in range(self._images):
            await self._call.write(chunk(str(number), b"work"))
        await self._call.done_writing()


@pytest.fixture
async def greedy_pair(harness):
    """Two streams that want more than there is, well under way."""
    streams = [Greedy(harness, 300) for _ in range(2)]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    while min(stream.answered for stream in streams) < 10:
        await asyncio.sleep(0.001)
    yield streams
    await asyncio.gather(*tasks)
    assert [stream.answered for stream in streams] == [300, 300]


async def test_a_stream_gets_its_turns_beside_greedy_ones(harness, greedy_pair):
    before = sum(stream.answered for stream in greedy_pair)
    results, _ = await harness.exchange(CONFIG, *(chunk(str(number), b"work") for number in range(10)))
    assert len(results) == 10
    # Three streams take turns: while one has ten, the others have twenty, and some that were on their way.
    assert sum(stream.answered for stream in greedy_pair) - before < 60


async def test_unary_calls_get_their_turns_beside_greedy_streams(harness, greedy_pair):
    for _ in range(10):
        answer = await harness.stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"work"))
        assert answer.cutout.image == b"work"
    assert all(stream.answered < 300 for stream in greedy_pair)


async def not_reading(harness, image):
    """A stream that sends images of large cutouts and reads no answer."""
    call = harness.stub.StreamRemoveBackground()
    await call.write(CONFIG)
    for number in range(harness.settings.max_in_flight_per_stream):
        for at in range(0, len(image), MIB):
            first = {"size_bytes": len(image)} if at == 0 else {}
            await call.write(chunk(str(number), image[at : at + MIB], last=at + MIB >= len(image), **first))
    return call


async def test_a_client_that_does_not_read_keeps_no_place(harness):
    calls = [await not_reading(harness, bytes(8 * MIB)) for _ in range(3)]
    while harness.admission.images or harness.service.finished < 9:
        await asyncio.sleep(0.01)
    results, _ = await harness.exchange(CONFIG, *(chunk(str(number), b"A") for number in range(9)))
    assert len(results) == 9
    for call in calls:
        call.cancel()


async def test_what_a_client_does_not_read_counts_against_the_budget(harness):
    call = await not_reading(harness, bytes(8 * MIB))
    while harness.service.finished < 3:
        await asyncio.sleep(0.01)
    # gRPC may have taken the chunks of the first one in already.
    assert harness.admission.bytes >= 2 * 8 * MIB
    call.cancel()
    while harness.admission.bytes:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("harness", [{"pause_seconds": 0.3}], indirect=True)
async def test_a_client_that_does_not_read_for_too_long_loses_its_stream(harness):
    call = await not_reading(harness, bytes(8 * MIB))
    while harness.admission.bytes or harness.service.finished < 3:
        await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [answer async for answer in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert reason_of(status) == "DEADLINE"


@pytest.mark.parametrize("harness", [{"upload_seconds": 0.4, "pause_seconds": 10}], indirect=True)
async def test_an_upload_that_drips_ends(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(CONFIG)
    await call.write(chunk("a", b"x", last=False, size_bytes=10_000))
    answer = asyncio.ensure_future(call.read())
    while not answer.done():
        await call.write(chunk("a", b"x", last=False))
        await asyncio.sleep(0.02)
    assert reason_of((await answer).image.error) == "UPLOAD_TIMEOUT"
    assert harness.admission.bytes == 0
    await call.done_writing()


@pytest.mark.parametrize("harness", [{"max_image_chunks": 3}], indirect=True)
async def test_an_image_in_too_many_chunks_is_refused_and_the_rest_of_it_discarded(harness):
    parts = [chunk("a", b"x", last=False, size_bytes=9)] + [chunk("a", b"x", last=n == 7) for n in range(8)]
    results, summary = await harness.exchange(CONFIG, *parts, chunk("b", b"B"))
    assert reason_of(results["a"].error) == "IMAGE_TOO_LARGE"
    info = error_details_pb2.ErrorInfo()
    assert results["a"].error.details[0].Unpack(info)
    assert dict(info.metadata) == {"limit": "3", "measured": "4", "unit": "chunks"}
    assert results["b"].cutout.image == b"B"
    assert summary.image_count == 2


@pytest.mark.parametrize("harness", [{"pause_seconds": 0.2}], indirect=True)
async def test_a_stream_that_never_says_its_config_ends(harness):
    call = harness.stub.StreamRemoveBackground()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert reason_of(status) == "UPLOAD_TIMEOUT"


@pytest.mark.parametrize("harness", [{"pause_seconds": 0.2}], indirect=True)
async def test_a_stream_may_be_silent_between_images(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(CONFIG)
    for image_id in ("a", "b"):
        await asyncio.sleep(0.5)
        await call.write(chunk(image_id, b"A"))
        assert (await call.read()).image.image_id == image_id
    await call.done_writing()


async def test_a_stream_without_config_does_not_hold_the_drain_up(harness):
    call = harness.stub.StreamRemoveBackground()
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0.2)
    harness.draining.set()
    assert (await reading).summary.draining
    assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_aborted_streams_leave_no_task_behind(harness):
    await harness.exchange(CONFIG, chunk("a", b"A"))
    await asyncio.sleep(0.1)
    before = len(asyncio.all_tasks())
    for _ in range(20):
        call = harness.stub.StreamRemoveBackground()
        await call.write(CONFIG)
        await call.write(chunk("a", b"slow"))
        await call.write(chunk("b", b"x", last=False, size_bytes=2))
        call.cancel()
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > before or harness.admission.images:
            await asyncio.sleep(0.01)
