"""Tritons that somebody else runs: watched, used in turn while they answer, never restarted."""

from __future__ import annotations

import asyncio
import logging

from cutstream_server.errors import CutstreamError, ModelUnavailableError
from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.connection import TritonConnection, explain
from cutstream_server.segmentation.liveness import AnswerWatch
from cutstream_server.segmentation.model_server import ModelServer, ServerState

logger = logging.getLogger(__name__)

_MOST_SECONDS_APART = 5.0
"""Between two looks at a Triton that does not answer: how much later than Triton the service is ready at worst."""


class ExternalTriton(ModelServer):
    """The Tritons at some addresses. Ready while one of them answers for all models."""

    embedded = False

    def __init__(self, urls: tuple[str, ...], models: tuple[str, ...]) -> None:
        """Takes the addresses, host:port of gRPC endpoints, and the names of the models that must answer."""
        super().__init__()
        self._urls = urls
        self._models = models
        self._watches: dict[str, AnswerWatch] = {}
        self._answering: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the watch; `wait_ready` tells when the first one answered."""
        self._tasks = [asyncio.create_task(self._keep_watch(url)) for url in self._urls]

    async def stop(self) -> None:
        """Ends the watch."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._answering.clear()
        self._change(ServerState.STOPPED)

    def url(self) -> str:
        """Gives the addresses that answer, one after the other."""
        if not self._answering:
            raise ModelUnavailableError("no Triton answers now")
        url = self._answering.pop(0)
        self._answering.append(url)
        return url

    def report_answer(self, url: str, model: str) -> None:
        """Takes it as a sign of life."""
        if url in self._watches:
            self._watches[url].note_answer(model)

    def report_failure(self, url: str, error: ModelUnavailableError) -> None:
        """Has the address asked right away."""
        if url in self._watches:
            self._watches[url].note_failure(error)

    async def _keep_watch(self, url: str) -> None:
        """Uses the Triton at an address while it answers, for ever."""
        backoff = Backoff(most=_MOST_SECONDS_APART)
        connection = TritonConnection(url)
        try:
            while True:
                watch = AnswerWatch(connection, self._models)
                try:
                    await watch.check()
                except CutstreamError as error:
                    logger.warning("the Triton at %s is not ready: %s", url, explain(error))
                    await asyncio.sleep(backoff.next_delay())
                    continue
                backoff.reset()
                await self._use_until_silent(url, watch)
        finally:
            await connection.close()

    async def _use_until_silent(self, url: str, watch: AnswerWatch) -> None:
        self._watches[url] = watch
        self._answering.append(url)
        self._change(ServerState.READY)
        reason = await watch.until_silent()
        logger.error("the Triton at %s answers no more: %s", url, reason)
        del self._watches[url]
        self._answering.remove(url)
        if not self._answering:
            self._change(ServerState.RECOVERING)
