"""Tritons that somebody else runs: watched, used while they answer, never restarted."""

from __future__ import annotations

import asyncio
import logging

from cutstream_server.errors import CutstreamError, ModelUnavailableError
from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.failures import explain
from cutstream_server.segmentation.liveness import AnswerWatch
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.segmentation.triton_pool import TritonPool

logger = logging.getLogger(__name__)

_LISTING_SECONDS = 5.0
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
        self._pool = TritonPool()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the watch; `wait_ready` tells when the first one answered."""
        self._tasks = [asyncio.create_task(self._keep_watch(url)) for url in self._urls]

    async def stop(self) -> None:
        """Ends the watch."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.clear()
        self._change(ServerState.STOPPED)

    def url(self) -> str:
        """Gives the address that has the fewest calls under way, of those that answer."""
        return self._pool.next_url()

    def call_began(self, url: str) -> None:
        """Counts it."""
        self._pool.begin(url)

    def call_ended(self, url: str) -> None:
        """Counts it."""
        self._pool.end(url)

    def report_answer(self, url: str, model: str) -> None:
        """Takes it as a sign of life."""
        self._pool.note_answer(url)
        if url in self._watches:
            self._watches[url].note_answer(model)

    def report_failure(self, url: str, error: ModelUnavailableError) -> None:
        """Has the address asked right away, and spared for a while."""
        self._pool.note_failure(url)
        if url in self._watches:
            self._watches[url].note_failure(error)

    async def _keep_watch(self, url: str) -> None:
        """Uses the Triton at an address while it answers, for ever."""
        backoff = Backoff(most=_MOST_SECONDS_APART)
        connection = TritonConnection(url)
        try:
            while True:
                watch = AnswerWatch(connection, self.rules)
                try:
                    await self._ask_rules(connection)
                    await watch.check()
                except CutstreamError as error:
                    logger.warning("the Triton at %s is not ready: %s", url, explain(error))
                    await asyncio.sleep(backoff.next_delay())
                    continue
                backoff.reset()
                await self._use_until_silent(url, watch)
        finally:
            await connection.close()

    async def _ask_rules(self, connection: TritonConnection) -> None:
        """Finds out how its models may be used.

        Raises:
            CutstreamError: a model is not served, or is one of another kind.
        """
        for model in self._models:
            rules = await connection.model_rules(model, timeout=_LISTING_SECONDS)
            if rules is None:
                raise ModelUnavailableError(f"model {model!r} has another interface than the one that is served here")
            self.rules[model] = rules

    async def _use_until_silent(self, url: str, watch: AnswerWatch) -> None:
        self._watches[url] = watch
        self._pool.add(url)
        self._change(ServerState.READY)
        reason = await watch.until_silent()
        logger.error("the Triton at %s answers no more: %s", url, reason)
        del self._watches[url]
        self._pool.remove(url)
        if not len(self._pool):
            self._change(ServerState.RECOVERING)
