"""The budget of images and bytes."""

import asyncio

import pytest

from cutstream_server.errors import OverloadedError
from cutstream_server.rpc.admission import Admission


async def settle():
    """Lets every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_images_over_the_count_are_refused():
    admission = Admission(max_images=2, max_bytes=100)
    admission.admit_now(1)
    admission.admit_now(1)
    with pytest.raises(OverloadedError):
        admission.admit_now(1)


async def test_images_over_the_bytes_are_refused():
    admission = Admission(max_images=9, max_bytes=100)
    admission.admit_now(60)
    with pytest.raises(OverloadedError):
        admission.admit_now(41)


async def test_a_refusal_says_when_to_try_again():
    with pytest.raises(OverloadedError) as caught:
        Admission(max_images=0, max_bytes=1).admit_now(1)
    assert caught.value.retry_after_seconds > 0


async def test_a_released_place_is_free_again():
    admission = Admission(max_images=1, max_bytes=100)
    admission.admit_now(100).release()
    admission.admit_now(100)


async def test_releasing_twice_gives_back_once():
    admission = Admission(max_images=2, max_bytes=100)
    place = admission.admit_now(50)
    admission.admit_now(50)
    place.release()
    place.release()
    assert admission.images == 1


async def test_waiters_are_admitted_in_order():
    admission = Admission(max_images=1, max_bytes=100)
    held = admission.admit_now(1)
    order = []

    async def wait(name, size):
        place = await admission.admit(size)
        order.append(name)
        place.release()

    tasks = [asyncio.create_task(wait(name, size)) for name, size in (("large", 100), ("small", 1))]
    await settle()
    held.release()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_unary_calls_do_not_overtake_waiting_streams():
    admission = Admission(max_images=9, max_bytes=100)
    held = admission.admit_now(60)
    waiter = asyncio.create_task(admission.admit(50))
    await settle()
    with pytest.raises(OverloadedError):
        admission.admit_now(1)
    held.release()
    (await waiter).release()


async def test_a_cancelled_waiter_passes_its_turn_on():
    admission = Admission(max_images=9, max_bytes=100)
    admission.admit_now(60)
    large = asyncio.create_task(admission.admit(90))
    small = asyncio.create_task(admission.admit(30))
    await settle()
    large.cancel()
    await settle()
    assert small.done()


async def test_a_waiter_cancelled_in_the_moment_of_its_admission_holds_nothing():
    admission = Admission(max_images=1, max_bytes=100)
    held = admission.admit_now(1)
    waiter = asyncio.create_task(admission.admit(1))
    await settle()
    held.release()
    waiter.cancel()
    await settle()
    assert admission.images == 0
