"""How calls meet the budget of images and bytes; tests/server/test_budget.py has the budget itself."""

import asyncio

import pytest

from cutstream_server.errors import OverloadedError
from cutstream_server.rpc import admission as module
from cutstream_server.rpc.admission import Admission


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "UNARY_WAIT_SECONDS", 0.05)


@pytest.mark.parametrize(("images", "size"), [(1, 1), (9, 41)])
async def test_a_call_over_the_count_or_the_bytes_is_refused_after_a_moment(images, size):
    admission = Admission(max_images=images, max_bytes=100)
    await admission.admit(60)
    with pytest.raises(OverloadedError):
        await admission.admit_soon(size)


async def test_a_call_is_admitted_when_a_place_comes_free_in_time(monkeypatch):
    monkeypatch.setattr(module, "UNARY_WAIT_SECONDS", 20)
    admission = Admission(max_images=1, max_bytes=100)
    held = await admission.admit(1)
    call = asyncio.create_task(admission.admit_soon(1))
    await asyncio.sleep(0.05)
    held.release()
    await call
    assert admission.images == 1


async def test_a_refused_call_waits_no_longer():
    admission = Admission(max_images=1, max_bytes=100)
    held = await admission.admit(1)
    with pytest.raises(OverloadedError):
        await admission.admit_soon(1)
    held.release()
    assert admission.waiting == 0
    assert (admission.images, admission.bytes) == (0, 0)


async def test_a_refusal_says_when_to_try_again_and_is_counted():
    admission = Admission(max_images=0, max_bytes=1)
    with pytest.raises(OverloadedError) as caught:
        await admission.admit_soon(1)
    assert caught.value.retry_after_seconds > 0
    assert admission.rejected == 1


async def test_calls_do_not_overtake_waiting_streams():
    admission = Admission(max_images=9, max_bytes=100)
    held = await admission.admit(60)
    stream = asyncio.create_task(admission.admit(50))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await admission.admit_soon(1)
    held.release()
    await stream


async def test_not_more_calls_wait_than_there_are_places(monkeypatch):
    monkeypatch.setattr(module, "UNARY_WAIT_SECONDS", 1000)
    admission = Admission(max_images=2, max_bytes=100)
    for _ in range(2):
        await admission.admit(1)
    waiting = [asyncio.create_task(admission.admit_soon(1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await admission.admit_soon(1)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
