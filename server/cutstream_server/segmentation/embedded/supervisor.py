"""Keeps an embedded Triton answering: starts it, notices when it does not answer any more, starts another."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cutstream_server.errors import CutstreamError, ModelUnavailableError
from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.process import (
    READY_SECONDS,
    STOP_SECONDS,
    Launch,
    TritonProcess,
    TritonStartError,
    start_triton,
)
from cutstream_server.segmentation.embedded.runs import RunError, remove_dead_runs
from cutstream_server.segmentation.failures import explain
from cutstream_server.segmentation.liveness import AnswerWatch
from cutstream_server.segmentation.model_rules import rules_in
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.segmentation.racing import first_result

logger = logging.getLogger(__name__)

_STEADY_SECONDS = 30.0
"""A Triton that answered an image, or lived for this long, is restarted at once: it was of use. One that did neither,
after ever longer waits: an image that kills it would else have it restarted without a pause."""


@dataclass(frozen=True)
class _Running:
    """A Triton that has answered, and the watch over it."""

    process: TritonProcess
    connection: TritonConnection
    watch: AnswerWatch
    since: float

    async def until_failure(self) -> str:
        """Waits until it ends or answers no more, and tells why that is."""
        return await first_result(self._until_end(), self.watch.until_silent())

    async def _until_end(self) -> str:
        return f"it ended with exit status {await self.process.wait()}"

    async def stop(self, grace: float) -> None:
        await self.connection.close()
        await self.process.stop(grace)


class EmbeddedTriton(ModelServer):
    """A Triton of our own. A failed one is replaced by a new run: as quick as loading its models again, and surer."""

    embedded = True

    def __init__(
        self, launch: Launch, *, ready_seconds: float = READY_SECONDS, stop_seconds: float = STOP_SECONDS
    ) -> None:
        """Takes what to start, the time for it to become ready, and the time for its clean end, 0 for none."""
        super().__init__()
        self._launch = launch
        self.rules = {model: rules_in(launch.repositories, model) for model in launch.models}
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._running: _Running | None = None
        self._answered = False
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Removes what dead runs left, then starts Triton and waits until its models answer.

        Raises:
            TritonStartError: it does not start, with the reason from its log.
            RunError: there is no place for the run, or a dead one cannot be removed.
        """
        for name in await asyncio.to_thread(remove_dead_runs):
            logger.info("removed the remains of the dead Triton run %s", name)
        self._running = await self._start_one()
        self._change(ServerState.READY)
        self._supervision = asyncio.create_task(self._supervise(self._running))

    async def stop(self) -> None:
        """Ends Triton, its backend processes and its watchdog, and removes what they leave."""
        self._change(ServerState.STOPPED)
        if self._supervision:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        if self._running:
            await self._running.stop(self._stop_seconds)
            self._running = None

    @property
    def process(self) -> TritonProcess:
        """The run that answers now: its log, its metrics port.

        Raises:
            ModelUnavailableError: none does.
        """
        if not self.ready or not self._running:
            raise ModelUnavailableError(f"Triton is {self.state.value}")
        return self._running.process

    def url(self) -> str:
        """Gives its address, another one after each restart."""
        return self.process.url

    def control_headers(self) -> Mapping[str, str]:
        """Gives those of the run that answers now."""
        return self.process.control_headers

    async def load(self, model: str) -> None:
        """Has Triton load a model, or the newest version of one that it serves, which answers until that is ready.

        Raises:
            ModelLoadError: it cannot be loaded, with Triton's reason.
            ModelFileError: its configuration cannot be used.
            ModelUnavailableError: Triton does not answer now.
        """
        rules = rules_in(self._launch.repositories, model)
        await self._connection().load_model(model, headers=self.control_headers(), timeout=self._ready_seconds)
        self.rules[model] = rules
        self._launch = dataclasses.replace(self._launch, models=tuple(self.rules))

    async def unload(self, model: str) -> None:
        """Has Triton forget a model once its images are done.

        Raises:
            ModelUnavailableError: Triton does not answer now; after a restart it does not know the model any more.
        """
        # First: neither a probe nor a restart is to ask for it any more.
        self.rules.pop(model, None)
        self._launch = dataclasses.replace(self._launch, models=tuple(self.rules))
        await self._connection().unload_model(model, headers=self.control_headers(), timeout=self._ready_seconds)

    def _connection(self) -> TritonConnection:
        if not self.ready or not self._running:
            raise ModelUnavailableError(f"Triton is {self.state.value}")
        return self._running.connection

    def report_answer(self, url: str, model: str) -> None:
        """Takes it as a sign of life; one of an earlier run says nothing."""
        if self._running and self._running.process.url == url:
            self._answered = True
            self._running.watch.note_answer(model)

    def report_failure(self, url: str, error: ModelUnavailableError) -> None:
        """Has the models asked right away; a failure of an earlier run is known already."""
        if self._running and self._running.process.url == url:
            self._running.watch.note_failure(error)

    async def _start_one(self) -> _Running:
        process = await start_triton(self._launch, self._ready_seconds)
        connection = TritonConnection(process.url)
        watch = AnswerWatch(connection, self.rules)
        running = _Running(process, connection, watch, time.monotonic())
        try:
            await watch.check()
        except BaseException as error:
            await running.stop(grace=0)
            if isinstance(error, CutstreamError):
                raise TritonStartError(
                    f"Triton started and does not answer: {explain(error)}", process.run.log
                ) from error
            raise
        logger.info("Triton answers at %s, its log is %s", process.url, process.run.log)
        return running

    async def _supervise(self, running: _Running) -> None:
        backoff = Backoff()
        while True:
            reason = await running.until_failure()
            self._change(ServerState.RECOVERING)
            self.restarts += 1
            logger.error("Triton failed: %s; its log is %s", reason, running.process.run.log)
            if self._answered or time.monotonic() - running.since >= _STEADY_SECONDS:
                backoff.reset()
            self._answered = False
            await self._discard(running)
            self._running = None  # Not earlier: a stop that comes while it is discarded finishes that.
            running = self._running = await self._start_again(backoff)
            self._change(ServerState.READY)

    async def _discard(self, running: _Running) -> None:
        """Removes a failed run; it is killed, since nothing of it can be trusted to end."""
        try:
            await running.stop(grace=0)
        except (RunError, OSError):
            logger.exception("a failed Triton could not be removed; another one is started beside it")

    async def _start_again(self, backoff: Backoff) -> _Running:
        while True:
            await asyncio.sleep(backoff.next_delay())
            try:
                return await self._start_one()
            except (TritonStartError, RunError, OSError):
                logger.exception("Triton does not come back yet")
