"""The core that every transport calls: options and bytes in, an outcome out; it never raises for an image."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cutstream_server.errors import CutstreamError, DeadlineError, InternalFaultError
from cutstream_server.report import Cutout, ImageReport

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cutstream_server.options import OptionResolver, Options
    from cutstream_server.pipeline import Pipeline
    from cutstream_server.segmentation.catalog import ModelCatalog

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
        models: those that may be asked for.
    """

    pipeline: Pipeline
    options: OptionResolver
    models: ModelCatalog
    _under_way: set[asyncio.Task[Cutout]] = field(default_factory=set, init=False, repr=False)

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
            with report.timed("total"), self.models.use(options):
                cutout = await self._in_time(self.pipeline.remove(data, report, time_left=limit), limit)
        except CutstreamError as error:
            return Outcome(report, error=error)
        except TimeoutError:
            # What computes still may go on writing into the report.
            so_far = replace(report, seconds=dict(report.seconds))
            return Outcome(so_far, error=DeadlineError("the image's time ran out", timeout_seconds=limit))
        except Exception as error:  # noqa: BLE001 - one image's fault must not reach the others
            return Outcome(report, error=internal_fault(error))
        return Outcome(report, cutout=cutout)

    async def _in_time(self, work: Coroutine[Any, Any, Cutout], limit: float) -> Cutout:
        """Waits for the work, but not for what of it cannot be stopped: a function that computes for minutes.

        What was given up keeps its place among the decoded images until it ends, so that memory stays bounded.

        Raises:
            TimeoutError: it took longer than the limit.
        """
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=limit)
        finally:
            task.cancel()
        if not task.done():
            raise TimeoutError
        return task.result()

    def _forget(self, task: asyncio.Task[Cutout]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Looked at, so that asyncio does not report it as lost when nobody waits any more.


def internal_fault(error: BaseException) -> InternalFaultError:
    """Logs a fault of ours with its traceback and makes the error that tells the caller nothing but where to look."""
    fault_id = uuid.uuid4().hex
    logger.error("internal fault %s", fault_id, exc_info=error)
    return InternalFaultError("an internal fault; the server's log has the details", fault_id=fault_id)
