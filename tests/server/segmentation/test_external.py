import asyncio

import pytest

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.embedded.process import start_triton
from cutstream_server.segmentation.external import ExternalTriton
from cutstream_server.segmentation.model_server import ServerState
from cutstream_server.segmentation.triton import TritonClient

NOBODY = "127.0.0.1:1"
SECONDS = 30.0


@pytest.fixture
async def serve():
    """Makes and starts watches over Tritons."""
    servers = []

    async def start(*urls, models=("tiny",)):
        server = ExternalTriton(urls, models)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


async def until_both_answer(server, one, other):
    await server.wait_ready(SECONDS)
    async with asyncio.timeout(SECONDS):
        while {server.url(), server.url()} != {one.url, other.url}:
            await asyncio.sleep(0.05)


async def test_it_is_ready_when_one_address_answers(serve, triton):
    server = await serve(NOBODY, triton.url)
    await server.wait_ready(SECONDS)
    assert {server.url() for _ in range(4)} == {triton.url}


async def test_it_is_not_ready_for_a_model_that_is_not_served(serve, triton):
    server = await serve(triton.url, models=("tiny", "no-such-model"))
    with pytest.raises(ModelUnavailableError):
        await server.wait_ready(0.5)
    with pytest.raises(ModelUnavailableError):
        server.url()


async def test_addresses_that_answer_take_turns_and_a_dead_one_is_left_out(serve, triton, launch):
    other = await start_triton(launch)
    server = await serve(triton.url, other.url)
    await until_both_answer(server, triton, other)
    await other.stop(grace=0)
    server.report_failure(other.url, ModelUnavailableError("a call failed"))
    async with asyncio.timeout(SECONDS):
        while {server.url(), server.url()} != {triton.url}:
            await asyncio.sleep(0.05)
    assert server.state is ServerState.READY


async def test_calls_go_where_the_fewest_are_under_way(serve, triton, launch):
    other = await start_triton(launch)
    server = await serve(triton.url, other.url)
    await until_both_answer(server, triton, other)
    for _ in range(3):
        server.call_began(other.url)
    assert {server.url() for _ in range(4)} == {triton.url}
    await other.stop(grace=0)


async def test_images_that_meet_a_dying_triton_are_answered_by_the_other_and_it_is_called_no_more(
    serve, triton, launch, picture
):
    other = await start_triton(launch)
    server = await serve(triton.url, other.url)
    await until_both_answer(server, triton, other)
    client = TritonClient(server)
    calls = [asyncio.create_task(client.infer("tiny", picture(256, 256), timeout=SECONDS)) for _ in range(40)]
    await other.stop(grace=0)
    predictions = await asyncio.gather(*calls)
    assert [prediction.alpha.shape for prediction in predictions] == [(1, 1, 256, 256)] * 40
    assert {server.url() for _ in range(10)} == {triton.url}
    await client.close()


async def test_it_recovers_when_the_only_one_comes_back(serve, launch, picture, monkeypatch):
    process = await start_triton(launch)
    server = await serve(process.url)
    await server.wait_ready(SECONDS)
    client = TritonClient(server)
    await process.stop(grace=0)
    with pytest.raises(ModelUnavailableError):
        await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        while server.state is not ServerState.RECOVERING:
            await asyncio.sleep(0.05)
    monkeypatch.setattr("cutstream_server.segmentation.embedded.process._free_ports", lambda: process.ports)
    process = await start_triton(launch)
    await server.wait_ready(SECONDS)
    prediction = await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert prediction.alpha.shape == (1, 1, 64, 64)
    await client.close()
    await process.stop(grace=0)
