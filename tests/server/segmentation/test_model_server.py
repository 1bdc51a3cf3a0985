import asyncio

import pytest

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.model_server import ModelServer, ServerState


class Switched(ModelServer):
    """A model server whose state the test sets."""

    embedded = True

    async def start(self):
        self._change(ServerState.READY)

    async def stop(self):
        self._change(ServerState.STOPPED)

    async def fail(self):
        self._change(ServerState.RECOVERING)

    def url(self):
        return ""

    def report_answer(self, url, model):
        pass

    def report_failure(self, url, error):
        pass


async def test_each_change_of_state_is_told_once():
    server, seen = Switched(), []
    server.subscribe(seen.append)
    for change in (server.start, server.start, server.fail, server.start, server.stop):
        await change()
    assert seen == [ServerState.READY, ServerState.RECOVERING, ServerState.READY, ServerState.STOPPED]


async def test_a_wait_ends_when_the_server_becomes_ready():
    server = Switched()
    waiting = asyncio.create_task(server.wait_ready(timeout=20))
    await asyncio.sleep(0)
    assert not waiting.done()
    await server.start()
    await waiting


async def test_a_wait_that_is_too_long_says_how_long_it_was():
    with pytest.raises(ModelUnavailableError, match=r"after 0\.05 s"):
        await Switched().wait_ready(timeout=0.05)


async def test_a_wait_ends_when_the_server_is_stopped():
    server = Switched()
    waiting = asyncio.create_task(server.wait_ready())
    await asyncio.sleep(0)
    await server.stop()
    with pytest.raises(ModelUnavailableError, match="stopped"):
        await waiting
