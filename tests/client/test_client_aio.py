"""The asyncio client: what it has beyond the blocking one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from cutstream import AsyncClient, CutoutError, LoadBalancingConfig
from cutstream.v1 import cutstream_pb2 as pb


@pytest.fixture
async def aclient(server, fast_retry):
    async with AsyncClient(server.target, retry=fast_retry) as connected:
        yield connected


async def eventually(condition) -> bool:
    """Whether the condition comes true within 5 seconds."""
    for _ in range(500):
        if condition():
            break
        await asyncio.sleep(0.01)
    return condition()


async def numbered(count: int):
    for number in range(count):
        await asyncio.sleep(0)
        yield f"id {number}", b"%d" % number


async def test_one_image_comes_back_as_a_cutout(server, aclient):
    assert (await aclient.remove(b"abc")).data == b"cba"


async def test_calls_run_side_by_side(server, aclient):
    cutouts = await asyncio.gather(*(aclient.remove(b"%02d" % number) for number in range(20)))
    assert [cutout.data for cutout in cutouts] == [(b"%02d" % number)[::-1] for number in range(20)]


async def test_an_async_iterable_is_streamed(server, aclient):
    results = [result async for result in aclient.stream(numbered(30), ordered=True)]
    assert [result.image_id for result in results] == [f"id {number}" for number in range(30)]


async def test_an_iterable_is_streamed(server, aclient):
    results = [result async for result in aclient.stream([b"a", b"b"], ordered=True)]
    assert [result.data for result in results] == [b"a", b"b"]


async def test_what_the_async_iterable_raises_comes_after_the_results(server, aclient):
    async def broken():
        async for image in numbered(3):
            yield image
        raise LookupError("the caller's")

    results = aclient.stream(broken())
    assert len([await anext(results) for _ in range(3)]) == 3
    with pytest.raises(LookupError, match="the caller's"):
        await anext(results)


async def test_leaving_inside_aclosing_cancels_at_once(server, aclient):
    async with contextlib.aclosing(aclient.stream(numbered(100), window=2)) as results:
        async for _ in results:
            break
    assert await eventually(lambda: server.cancelled_streams == 1)
    assert len(server.received) < 10


async def test_cancelling_the_consumer_cancels_the_stream(server, aclient):
    async def never(image):
        await asyncio.Event().wait()

    async def consume():
        async for _ in aclient.stream(numbered(5)):
            pass

    server.script = never
    consumer = asyncio.create_task(consume())
    assert await eventually(lambda: server.received)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert await eventually(lambda: server.cancelled_streams == 1)


async def test_nothing_is_left_running_after_a_stream(server, aclient):
    async for _ in aclient.stream(numbered(5)):
        pass
    await asyncio.sleep(0.05)
    assert [task.get_name() for task in asyncio.all_tasks() if "session" in repr(task.get_coro())] == []


async def test_closing_the_client_ends_its_streams_with_an_error(server, aclient):
    async def never(image):
        await asyncio.Event().wait()

    server.script = never
    results = aclient.stream(numbered(2))
    waiting = asyncio.create_task(anext(results))
    assert await eventually(lambda: server.received)
    await aclient.close()
    with pytest.raises(CutoutError, match="CANCELLED"):
        await waiting


async def test_info_reaches_a_server_whose_model_is_not_ready(server, fast_retry):
    server.health = 2  # NOT_SERVING
    server.server_info = pb.GetServerInfoResponse(version="9.9")
    async with AsyncClient(server.target, retry=fast_retry, load_balancing=LoadBalancingConfig()) as aclient:
        assert (await aclient.info()).version == "9.9"
