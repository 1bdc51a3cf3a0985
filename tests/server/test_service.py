"""When an image's answer comes, whatever becomes of its work."""

import asyncio
import gc
import threading

import pytest

from cutstream_server.imaging.presets import PRESETS_BY_NAME
from cutstream_server.options import OptionResolver
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.service import Service
from cutstream_server.workers import Workers

RESOLVER = OptionResolver(PRESETS_BY_NAME, {}, 60.0)


class Computing:
    """Stands where the pipeline does: computes until the test lets it end, which no cancellation can."""

    def __init__(self, workers):
        self.workers = workers
        self.begun, self.end, self.ended = threading.Event(), threading.Event(), False

    async def remove(self, data, report, *, time_left):
        try:
            return await self.workers.run(report, "encoding", self._compute)
        finally:
            self.ended = True

    def _compute(self):
        self.begun.set()
        assert self.end.wait(20)
        return "cutout"


@pytest.fixture
def computing():
    workers = Workers(1)
    computing = Computing(workers)
    yield computing
    computing.end.set()
    workers.close()


def service_of(pipeline):
    return Service(pipeline, RESOLVER, ModelCatalog({"isnet": ModelRules()}))


async def test_an_image_is_answered_when_its_time_is_over_though_its_work_goes_on(computing):
    outcome = await service_of(computing).process(b"", RESOLVER.resolve({"processing_timeout": 0.1}))
    assert outcome.error.reason == "DEADLINE"
    assert outcome.error.metadata == {"timeout_seconds": "0.1"}
    assert not computing.ended


async def test_the_callers_deadline_counts_when_it_is_the_earlier_one(computing):
    outcome = await service_of(computing).process(b"", RESOLVER.resolve({}), time_left=0.1)
    assert outcome.error.metadata == {"timeout_seconds": "0.1"}


async def test_what_is_given_up_ends_in_its_own_time_and_changes_no_answer(computing):
    outcome = await service_of(computing).process(b"", RESOLVER.resolve({"processing_timeout": 0.1}))
    told = dict(outcome.report.seconds)
    computing.end.set()
    while not computing.ended:
        await asyncio.sleep(0.01)
    assert outcome.report.seconds == told
    assert computing.workers.busy is False


async def test_a_caller_that_goes_away_need_not_wait(computing):
    call = asyncio.create_task(service_of(computing).process(b"", RESOLVER.resolve({})))
    while not computing.begun.is_set():
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not computing.ended


async def test_work_that_ends_in_time_is_the_answer(computing):
    computing.end.set()
    outcome = await service_of(computing).process(b"", RESOLVER.resolve({}))
    assert (outcome.cutout, outcome.error) == ("cutout", None)


async def test_a_failure_in_the_moment_its_caller_goes_away_is_not_reported_as_lost(caplog):
    gate = asyncio.Event()

    class Failing:
        async def remove(self, data, report, *, time_left):
            await gate.wait()
            raise ValueError("nobody waits for it")

    call = asyncio.create_task(service_of(Failing()).process(b"", RESOLVER.resolve({})))
    for _ in range(3):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    del call
    gc.collect()
    assert caplog.text == ""
