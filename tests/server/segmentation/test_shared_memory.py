import asyncio
import signal
import sys

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.errors import DeadlineError, InternalFaultError
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.runs import SHARED_MEMORY
from cutstream_server.segmentation.shared_memory import PREFIX, SharedMemory

SECONDS = 20.0


@pytest.fixture
async def stub(triton):
    async with grpc.aio.insecure_channel(triton.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
async def registered(stub, triton):
    """Asks Triton which regions it has."""

    async def ask():
        request = service_pb2.SystemSharedMemoryStatusRequest()
        answer = await stub.SystemSharedMemoryStatus(request, metadata=tuple(triton.control_headers.items()))
        return {name for name in answer.regions if name.startswith(PREFIX)}

    return ask


@pytest.fixture
async def sharing(connection, triton):
    """A connection that goes through shared memory."""
    await connection.share_memory("tiny", headers=triton.control_headers, timeout=SECONDS)
    return connection


async def until(condition):
    async with asyncio.timeout(SECONDS):
        while not await condition():
            await asyncio.sleep(0.05)


def grey(value, side=64):
    return np.full((1, 3, side, side), value, np.uint8)


async def test_a_connection_begins_on_the_wire(connection):
    assert connection.transport == "grpc"


async def test_a_triton_that_shares_memory_is_found_to(sharing):
    assert sharing.transport == "shared_memory"


async def test_without_its_key_triton_is_reached_by_the_wire(connection, picture):
    with pytest.raises(grpc.aio.AioRpcError):
        await connection.share_memory("tiny", headers={}, timeout=SECONDS)
    assert connection.transport == "grpc"
    assert (await connection.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (96, 160), (1024, 1024), (300, 77), (1216, 1216)])
async def test_a_shared_mask_is_the_red_channel(sharing, picture, size):
    image = picture(*size)
    prediction = await sharing.infer("tiny", image, timeout=SECONDS)
    assert prediction.alpha.dtype == np.float32
    assert prediction.alpha.shape == (1, 1, *size)
    np.testing.assert_allclose(prediction.alpha, image[:, :1] / 255, rtol=0, atol=1.2e-7)


async def test_a_shared_mask_at_16_bits_is_its_share_of_65535(sharing, picture):
    image = picture(300, 77)
    prediction = await sharing.infer("sixteen", image, timeout=SECONDS)
    np.testing.assert_array_equal(prediction.alpha, (image[:, :1] / 255).astype(np.float32))


async def test_shared_answers_do_not_mix(sharing):
    images = [grey(value) for value in range(40)]
    predictions = await asyncio.gather(*(sharing.infer("tiny", image, timeout=SECONDS) for image in images))
    means = [prediction.alpha.mean() * 255 for prediction in predictions]
    np.testing.assert_allclose(means, range(40), atol=1e-4)


async def test_a_mask_stays_when_its_region_is_used_again(sharing):
    first = await sharing.infer("tiny", grey(255), timeout=SECONDS)
    await sharing.infer("tiny", grey(0), timeout=SECONDS)
    assert (first.alpha == 1).all()


async def test_images_one_after_the_other_share_one_registration(sharing, registered):
    for _ in range(5):
        await sharing.infer("tiny", grey(7), timeout=SECONDS)
    assert len(await registered()) == 1


async def test_regions_too_small_make_room(sharing, picture, registered):
    await asyncio.gather(*(sharing.infer("tiny", grey(1), timeout=SECONDS) for _ in range(30)))
    for _ in range(4):
        await sharing.infer("tiny", picture(256, 256), timeout=SECONDS)
    assert len(await registered()) <= 16


async def test_nothing_but_the_lock_is_left_in_the_file_system(sharing):
    await sharing.infer("tiny", grey(7), timeout=SECONDS)
    owned = [path.name for path in SHARED_MEMORY.glob(f"{PREFIX}{sharing._memory._owner}*")]
    assert owned == [f"{PREFIX}{sharing._memory._owner}"]


async def test_a_closed_connection_leaves_nothing(triton, registered):
    connection = TritonConnection(triton.url)
    await connection.share_memory("tiny", headers=triton.control_headers, timeout=SECONDS)
    owner = connection._memory._owner
    await connection.close()
    assert await registered() == set()
    assert not list(SHARED_MEMORY.glob(f"{PREFIX}{owner}*"))


async def test_after_a_time_out_a_region_is_kept_apart_until_triton_has_let_go(sharing, registered, held_up):
    before = await registered()
    with pytest.raises(DeadlineError):
        await sharing.infer("tiny", grey(255), timeout=0.1)
    # Triton still has the white image to answer, into the region; the black one must come out black all the same.
    black = asyncio.create_task(sharing.infer("tiny", grey(0), timeout=SECONDS))
    await asyncio.sleep(0.2)
    during = await registered()
    held_up()
    assert before < during
    assert (await black).alpha.max() == 0
    await until(lambda: _is_gone(before, registered))
    assert (await sharing.infer("tiny", grey(51), timeout=SECONDS)).alpha.max() == pytest.approx(0.2)


async def _is_gone(names, registered):
    return not names & await registered()


async def test_a_cancelled_calls_region_is_given_up(sharing, registered, held_up):
    before = await registered()
    call = asyncio.create_task(sharing.infer("tiny", grey(255), timeout=SECONDS))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    held_up()
    await until(lambda: _is_gone(before, registered))
    assert (await sharing.infer("tiny", grey(0), timeout=SECONDS)).alpha.max() == 0


async def test_a_refused_image_gives_up_no_more_than_its_region(sharing, picture):
    for _ in range(20):
        with pytest.raises(InternalFaultError):
            await sharing.infer("picky", picture(20, 20), timeout=SECONDS)
    assert sharing.transport == "shared_memory"
    assert (await sharing.infer("picky", picture(64, 64), timeout=SECONDS)).alpha.shape == (1, 1, 64, 64)


async def test_a_triton_that_has_forgotten_the_memory_gets_the_image_by_the_wire(sharing, stub, triton):
    request = service_pb2.SystemSharedMemoryUnregisterRequest(name="")
    await stub.SystemSharedMemoryUnregister(request, metadata=tuple(triton.control_headers.items()))
    assert (await sharing.infer("tiny", grey(255), timeout=SECONDS)).alpha.min() == 1
    assert sharing.transport == "grpc"


async def test_where_shared_memory_is_short_images_take_the_wire(sharing, monkeypatch, picture):
    monkeypatch.setattr("cutstream_server.segmentation.shared_memory._SHARE_LEFT", 1.0)
    image = picture(512, 512)
    prediction = await sharing.infer("tiny", image, timeout=SECONDS)
    np.testing.assert_allclose(prediction.alpha, image[:, :1] / 255, rtol=0, atol=1.2e-7)
    assert len(sharing._memory._free) == 1


CRASH = """
import asyncio, os, signal, sys
from tritonclient.grpc import service_pb2_grpc
import grpc
from cutstream_server.segmentation.shared_memory import SharedMemory

async def crash(url, *headers):
    channel = grpc.aio.insecure_channel(url)
    memory = SharedMemory(service_pb2_grpc.GRPCInferenceServiceStub(channel), dict([headers]))
    await memory.open()
    await memory.take(4096)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(crash(*sys.argv[1:]))
"""


async def test_what_a_crashed_service_left_is_taken_back_by_the_next(triton, stub, registered):
    ((key, value),) = triton.control_headers.items()
    arguments = [sys.executable, "-c", CRASH, triton.url, key, value]
    crash = await asyncio.create_subprocess_exec(*arguments)
    assert await crash.wait() == -signal.SIGKILL
    (left,) = await registered()
    memory = SharedMemory(stub, triton.control_headers)
    await memory.open()
    assert left not in await registered()
    assert not list(SHARED_MEMORY.glob(f"{left.rpartition('_')[0]}*"))
    await memory.close()


async def test_a_living_services_memory_stays(sharing, stub, triton, registered):
    before = await registered()
    other = SharedMemory(stub, triton.control_headers)
    await other.open()
    await other.close()
    assert await registered() == before
