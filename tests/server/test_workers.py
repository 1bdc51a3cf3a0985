"""CPU work in threads."""

import asyncio
import threading

import pytest

from cutstream_server.options import Options
from cutstream_server.report import ImageReport
from cutstream_server.workers import Workers


@pytest.fixture
def workers():
    made = Workers(1)
    yield made
    made.close()


async def test_the_time_of_a_function_is_booked_to_its_stage(workers):
    report = ImageReport(Options())
    assert await workers.run(report, "decode", max, 3, 5) == 5
    assert set(report.seconds) == {"queue", "decode"}


async def test_a_cancellation_waits_for_a_function_that_has_begun(workers):
    begun, finish, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        finish.wait(10)
        ended.append(True)

    task = asyncio.create_task(workers.run(ImageReport(Options()), "decode", work))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_cancelled_function_that_has_not_begun_never_runs(workers):
    finish, ran = threading.Event(), []
    first = asyncio.create_task(workers.run(ImageReport(Options()), "decode", finish.wait, 10))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(workers.run(ImageReport(Options()), "decode", ran.append, 1))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    finish.set()
    await first
    assert ran == []
