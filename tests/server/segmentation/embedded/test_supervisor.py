import asyncio
import dataclasses
import os
import signal

import numpy as np
import pytest

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation import liveness
from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.embedded import process
from cutstream_server.segmentation.embedded.process import TritonStartError
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.model_server import ServerState
from cutstream_server.segmentation.triton import TritonClient

SECONDS = 30.0
IN_FLIGHT = 12


@pytest.fixture
async def client(embedded):
    client = TritonClient(embedded)
    yield client
    await client.close()


@pytest.fixture
def states(embedded):
    seen = []
    embedded.subscribe(seen.append)
    return seen


async def calls_under_way(client, picture, count=IN_FLIGHT):
    """Starts calls that Triton has and has not answered yet."""
    image = picture(1024, 1024)
    calls = [asyncio.create_task(client.infer("tiny", image, timeout=SECONDS)) for _ in range(count)]
    await asyncio.sleep(0.05)
    return calls


async def killed(embedded, client, picture, number):
    """Kills one process of the run amid calls; gives the outcomes of these."""
    calls = await calls_under_way(client, picture)
    os.kill(embedded.process.run.processes()[number], signal.SIGKILL)
    return await asyncio.gather(*calls, return_exceptions=True)


TRITON, BACKEND = 0, 1


async def test_it_is_ready_and_answers_when_started(embedded, client, picture):
    image = picture(64, 64)
    assert embedded.state is ServerState.READY
    prediction = await client.infer("tiny", image, timeout=SECONDS)
    np.testing.assert_allclose(prediction.alpha, image[:, :1] / 255, rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("number", [TRITON, BACKEND], ids=["tritonserver", "backend"])
async def test_a_killed_process_is_replaced_and_no_call_is_lost(embedded, client, states, picture, number):
    outcomes = await killed(embedded, client, picture, number)
    assert [outcome.version for outcome in outcomes] == ["1"] * IN_FLIGHT
    assert states == [ServerState.RECOVERING, ServerState.READY]
    assert embedded.restarts == 1
    assert (await client.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"


@pytest.mark.parametrize("number", [TRITON, BACKEND], ids=["tritonserver", "backend"])
async def test_the_killed_run_leaves_nothing(embedded, client, states, picture, remains, number):
    run = embedded.process.run
    await killed(embedded, client, picture, number)
    async with asyncio.timeout(SECONDS):
        while len(states) < 2:
            await asyncio.sleep(0.01)
    assert remains(run) == []
    assert embedded.process.run.name != run.name


async def test_a_dead_backend_is_noticed_without_a_call(launch, monkeypatch):
    monkeypatch.setattr(liveness, "QUIET_SECONDS", 0.2)
    server, states = EmbeddedTriton(launch, stop_seconds=0), []
    await server.start()
    server.subscribe(states.append)
    os.kill(server.process.run.processes()[BACKEND], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while states != [ServerState.RECOVERING, ServerState.READY]:
            await asyncio.sleep(0.05)
    await server.stop()


async def test_there_is_no_address_while_it_recovers(embedded, client, states, picture):
    os.kill(embedded.process.run.processes()[TRITON], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while not states:
            await asyncio.sleep(0.001)
    with pytest.raises(ModelUnavailableError, match="recovering"):
        embedded.url()
    assert await client.ready_models() == {}


async def test_a_call_while_it_recovers_waits_for_its_return(embedded, client, states, picture):
    os.kill(embedded.process.run.processes()[TRITON], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while not states:
            await asyncio.sleep(0.001)
    assert (await client.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"
    assert states == [ServerState.RECOVERING, ServerState.READY]


async def kill_and_wait(embedded, states):
    """Kills the run that answers and waits for the next one."""
    states.clear()
    os.kill(embedded.process.run.processes()[TRITON], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while states != [ServerState.RECOVERING, ServerState.READY]:
            await asyncio.sleep(0.01)


async def test_waits_grow_while_no_image_is_answered_and_begin_anew_after_one(
    embedded, client, states, picture, monkeypatch
):
    waits = []
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    original = Backoff.next_delay
    monkeypatch.setattr(Backoff, "next_delay", lambda self: waits.append(original(self)) or waits[-1])
    await kill_and_wait(embedded, states)
    await kill_and_wait(embedded, states)
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    await kill_and_wait(embedded, states)
    assert waits == [0.1, 0.2, 0.1]


async def test_a_triton_that_hangs_is_replaced_and_its_calls_are_answered(launch, picture, monkeypatch):
    monkeypatch.setattr(liveness, "QUIET_SECONDS", 0.2)
    monkeypatch.setitem(liveness.AnswerWatch.__init__.__kwdefaults__, "silent_seconds", 3.0)
    server = EmbeddedTriton(launch, stop_seconds=0)
    await server.start()
    client = TritonClient(server)
    for process_id in server.process.run.processes():
        os.kill(process_id, signal.SIGSTOP)
    assert (await client.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"
    assert server.restarts == 1
    await client.close()
    await server.stop()


async def test_it_comes_back_after_starts_that_failed(embedded, launch, states, monkeypatch, caplog):
    attempts = []
    original = EmbeddedTriton._start_one

    async def fail_twice(self):
        attempts.append(self)
        if len(attempts) <= 2:
            raise TritonStartError("no luck", embedded_log)
        return await original(self)

    embedded_log = embedded.process.run.log
    monkeypatch.setattr(EmbeddedTriton, "_start_one", fail_twice)
    os.kill(embedded.process.run.processes()[TRITON], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while states != [ServerState.RECOVERING, ServerState.READY]:
            await asyncio.sleep(0.05)
    assert len(attempts) == 3
    assert [record.message for record in caplog.records].count("Triton does not come back yet") == 2


async def test_a_stop_amid_calls_leaves_nothing(launch, picture, remains):
    server = EmbeddedTriton(launch)  # With time for a clean end.
    await server.start()
    client, run = TritonClient(server), server.process.run
    calls = await calls_under_way(client, picture)
    await client.close()
    await server.stop()
    await asyncio.gather(*calls, return_exceptions=True)
    assert server.state is ServerState.STOPPED
    assert remains(run) == []


async def test_a_stop_while_it_recovers_leaves_nothing(launch, remains, monkeypatch):
    server, states = EmbeddedTriton(launch, stop_seconds=0), []
    await server.start()
    server.subscribe(states.append)
    runs = [server.process.run]
    open_run = process.open_run
    monkeypatch.setattr(process, "open_run", lambda: runs.append(open_run()) or runs[-1])
    os.kill(runs[0].processes()[TRITON], signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        while len(runs) < 2:
            await asyncio.sleep(0.01)
    await server.stop()
    assert states == [ServerState.RECOVERING, ServerState.STOPPED]
    assert [remains(run) for run in runs] == [[], []]


async def test_a_network_that_answers_no_mask_does_not_start(launch, repository):
    server = EmbeddedTriton(dataclasses.replace(launch, models=("cropping",)), stop_seconds=0)
    with pytest.raises(TritonStartError, match="does not answer"):
        await server.start()
    await server.stop()
