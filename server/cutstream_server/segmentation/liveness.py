"""Tells whether a Triton is alive: alive is what answers an inference.

Triton's health endpoints stay green when a backend process is dead, and nothing else tells that it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import numpy as np

from cutstream_server.errors import CutstreamError, DeadlineError, ModelUnavailableError
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.failures import BackendLostError, ModelBusyError, explain
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.racing import first_result

QUIET_SECONDS = 5.0
"""A model that has not answered for this long is asked; not one of a single size, since each probe of such a one costs
as much as an image. Those are asked at the start and after failures."""

LEAST_PAUSE_SECONDS = 0.5
"""Between two rounds of probes: a full queue refuses them within a millisecond."""

SILENT_SECONDS = 30.0
"""A model that has work and answers nothing of it for this long is dead. One image takes 0.4 to 6 s."""


class AnswerWatch:
    """Watches the models of one Triton: with the answers that it gives anyway, and with a probe when it gives none.

    A probe waits behind the images in the queue. So one that comes late proves nothing as long as images are answered.
    """

    def __init__(
        self, connection: TritonConnection, models: Mapping[str, ModelRules], *, silent_seconds: float = SILENT_SECONDS
    ) -> None:
        """Takes the models with their rules; what is added to the mapping or taken out later counts from then on."""
        self._connection = connection
        self._silent_seconds = silent_seconds
        self._models = models
        self._answered: dict[str, float] = {}
        self._suspected = asyncio.Event()
        self._lost = asyncio.Event()

    def note_answer(self, model: str) -> None:
        """Notes that the model answered just now."""
        self._answered[model] = time.monotonic()

    def note_failure(self, error: ModelUnavailableError) -> None:
        """Has all models asked right away; a lost backend process needs no question."""
        (self._lost if isinstance(error, BackendLostError) else self._suspected).set()

    async def check(self) -> None:
        """Asks each model once.

        Raises:
            CutstreamError: one did not answer; the text has the reason.
        """
        for model in list(self._models):
            await self._probe(model)

    async def until_silent(self) -> str:
        """Watches until a model answers no more, and tells why that is."""
        return await first_result(self._until_unanswered(), self._until_lost())

    async def _until_lost(self) -> str:
        await self._lost.wait()
        return "a backend process is lost"

    async def _until_unanswered(self) -> str:
        while True:
            suspected = await self._pause()
            for model, rules in list(self._models.items()):
                if suspected or (rules.other_sides and self._quiet_for(model) >= QUIET_SECONDS):
                    try:
                        await self._probe(model)
                    except (ModelBusyError, DeadlineError) as error:
                        if self._quiet_for(model) >= self._silent_seconds:
                            return explain(error)
                    except CutstreamError as error:
                        if model in self._models:  # and not just unloaded
                            return explain(error)

    def _quiet_for(self, model: str) -> float:
        return time.monotonic() - self._answered.setdefault(model, time.monotonic())

    async def _probe(self, model: str) -> None:
        side = self._models[model].probe_side
        image = np.zeros((1, 3, side, side), np.uint8)
        await self._connection.infer(model, image, timeout=self._silent_seconds)
        self.note_answer(model)

    async def _pause(self) -> bool:
        """Waits until a failure is reported or a model has been quiet; tells whether it was a failure."""
        quiet = max((self._quiet_for(model) for model, rules in self._models.items() if rules.other_sides), default=0.0)
        try:
            async with asyncio.timeout(max(LEAST_PAUSE_SECONDS, QUIET_SECONDS - quiet)):
                await self._suspected.wait()
        except TimeoutError:
            return False
        self._suspected.clear()
        return True
