import asyncio

import pytest

from cutstream_server.errors import DeadlineError, ModelUnavailableError, UnknownModelError
from cutstream_server.segmentation import liveness
from cutstream_server.segmentation.failures import BackendLostError, ModelBusyError
from cutstream_server.segmentation.liveness import AnswerWatch
from cutstream_server.segmentation.model_rules import ModelRules

SILENT_SECONDS = 0.2


class ScriptedConnection:
    """Answers each probe with what the test says; None is an answer, an error is raised."""

    def __init__(self):
        self.outcome = None
        self.probes = []
        self.sides = {}

    async def infer(self, model, image, **_):
        self.probes.append(model)
        self.sides[model] = image.shape[-1]
        await asyncio.sleep(0)
        if self.outcome:
            raise self.outcome


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(liveness, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(liveness, "LEAST_PAUSE_SECONDS", 0.005)


@pytest.fixture
def connection():
    return ScriptedConnection()


@pytest.fixture
async def watch(connection):
    return AnswerWatch(connection, {"one": ModelRules(), "two": ModelRules()}, silent_seconds=SILENT_SECONDS)


async def test_quiet_models_are_asked_and_live_when_they_answer(connection, watch):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 0.2)
    assert set(connection.probes) == {"one", "two"}


async def test_a_model_of_one_size_is_asked_at_that_size_and_not_for_being_quiet(connection):
    models = {"free": ModelRules(), "fixed": ModelRules(side=320, other_sides=False)}
    watch = AnswerWatch(connection, models, silent_seconds=SILENT_SECONDS)
    await watch.check()
    assert connection.sides == {"free": 64, "fixed": 320}
    connection.probes.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 0.1)
    assert set(connection.probes) == {"free"}


async def test_a_model_of_one_size_is_asked_after_a_failure(connection):
    watch = AnswerWatch(connection, {"fixed": ModelRules(side=320, other_sides=False)}, silent_seconds=SILENT_SECONDS)
    connection.outcome = ModelUnavailableError("dead")
    watch.note_failure(ModelUnavailableError("a call failed"))
    assert "dead" in await asyncio.wait_for(watch.until_silent(), 1)


async def test_a_model_that_is_taken_out_is_not_asked_any_more(connection):
    models = {"one": ModelRules(), "two": ModelRules()}
    watch = AnswerWatch(connection, models, silent_seconds=SILENT_SECONDS)
    del models["two"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 0.1)
    assert set(connection.probes) == {"one"}


async def test_a_model_that_answers_images_is_not_asked(connection, watch):
    async def answer_images():
        while True:
            watch.note_answer("one")
            await asyncio.sleep(0.002)

    answering = asyncio.create_task(answer_images())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 0.1)
    answering.cancel()
    assert "two" in connection.probes
    assert "one" not in connection.probes


async def test_nobody_there_is_silence_at_once(connection, watch):
    connection.outcome = ModelUnavailableError("nobody there")
    assert "nobody there" in await asyncio.wait_for(watch.until_silent(), 20)
    assert len(connection.probes) == 1


@pytest.mark.parametrize("error", [ModelBusyError("busy"), DeadlineError("late")])
async def test_a_busy_model_lives_while_it_answers_images(connection, watch, error):
    connection.outcome = error

    async def answer_images_seldom():
        while True:
            watch.note_answer("one")
            watch.note_answer("two")
            await asyncio.sleep(0.06)

    answering = asyncio.create_task(answer_images_seldom())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 3 * SILENT_SECONDS)
    answering.cancel()
    assert connection.probes


@pytest.mark.parametrize("error", [ModelBusyError("busy"), DeadlineError("late")])
async def test_a_busy_model_that_answers_nothing_is_silent(connection, watch, error):
    connection.outcome = error
    reason = await asyncio.wait_for(watch.until_silent(), 20)
    assert str(error) in reason
    assert len(connection.probes) > 2


async def test_a_reported_failure_has_the_models_asked_at_once(connection, monkeypatch):
    monkeypatch.setattr(liveness, "QUIET_SECONDS", 1000)
    watch = AnswerWatch(connection, {"one": ModelRules()}, silent_seconds=SILENT_SECONDS)
    connection.outcome = ModelUnavailableError("nobody there")
    watching = asyncio.create_task(watch.until_silent())
    await asyncio.sleep(0.01)
    assert not connection.probes
    watch.note_failure(ModelUnavailableError("a call failed"))
    assert "nobody there" in await asyncio.wait_for(watching, 20)


async def test_a_reported_failure_alone_proves_nothing(connection, watch):
    watch.note_failure(ModelUnavailableError("a call failed"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.until_silent(), 0.1)


async def test_a_lost_backend_is_silence_though_probes_are_answered(connection, watch):
    watch.note_failure(BackendLostError("lost"))
    assert "backend process" in await asyncio.wait_for(watch.until_silent(), 20)


async def test_a_check_tells_what_a_model_answered(connection, watch):
    connection.outcome = UnknownModelError("no such model")
    with pytest.raises(UnknownModelError):
        await watch.check()
