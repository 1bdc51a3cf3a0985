"""The core that every transport calls: options and bytes in, an outcome out; it never raises for an image."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cutstream_server.errors import CutstreamError, DeadlineError, InternalFaultError, UnknownModelError
from cutstream_server.report import Cutout, ImageReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from cutstream_server.options import OptionResolver, Options
    from cutstream_server.pipeline import Pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How one image ended: with a cutout or with an error.

    `report` is what was measured in both cases; None when the image failed before any work.
    """

    report: ImageReport | None = None
    cutout: Cutout | None = None
    error: CutstreamError | None = None


@dataclass(frozen=True)
class Service:
    """Processes images under their options and their time limit.

    Attributes:
        pipeline: does the work.
        options: finds an image's options.
        models: names of the models that may be asked for.
    """

    pipeline: Pipeline
    options: OptionResolver
    models: Collection[str]

    async def process(self, data: bytes, options: Options, *, time_left: float | None = None) -> Outcome:
        """Makes the cutout of one image.

        Args:
            data: the encoded image.
            options: the options used, as `OptionResolver.resolve` gives them.
            time_left: seconds until the caller's deadline; None when there is none.

        Returns:
            The outcome; every failure but the cancellation of the call is in `error`.
        """
        report = ImageReport(options)
        assert options.processing_timeout is not None
        limit = min(options.processing_timeout, time_left if time_left is not None else math.inf)
        try:
            with report.timed("total"):
                async with asyncio.timeout(limit):
                    self._check_model(options.model)
                    cutout = await self.pipeline.remove(data, report, time_left=limit)
        except CutstreamError as error:
            return Outcome(report, error=error)
        except TimeoutError:
            return Outcome(report, error=DeadlineError("the image's time ran out", timeout_seconds=limit))
        except Exception as error:  # noqa: BLE001 - one image's fault must not reach the others
            return Outcome(report, error=internal_fault(error))
        return Outcome(report, cutout=cutout)

    def _check_model(self, model: str) -> None:
        if model not in self.models:
            available = ", ".join(sorted(self.models))
            text = f"no model {model!r} here; there are: {available}"
            raise UnknownModelError(text, model=model, available=available)


def internal_fault(error: BaseException) -> InternalFaultError:
    """Logs a fault of ours with its traceback and makes the error that tells the caller nothing but where to look."""
    fault_id = uuid.uuid4().hex
    logger.error("internal fault %s", fault_id, exc_info=error)
    return InternalFaultError("an internal fault; the server's log has the details", fault_id=fault_id)
