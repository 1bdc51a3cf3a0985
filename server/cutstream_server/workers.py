"""CPU work in threads, so that the event loop only ever waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

import cv2
from PIL import AvifImagePlugin
from threadpoolctl import threadpool_limits

from cutstream_server.report import ImageReport, Stage

P = ParamSpec("P")
T = TypeVar("T")


def limit_library_threads() -> None:
    """Keeps OpenCV, BLAS and the AVIF decoder to the thread that calls them, for the life of the process.

    The workers are the threads. The libraries' own would wait for each other on the same cores, and BLAS's burn up to
    100 ms of processor time an image in waiting.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class Workers:
    """A pool of threads. The functions that run in it release the interpreter's lock in their long loops.

    Args:
        count: number of threads.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._running: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether a function is running or waits for a thread."""
        return bool(self._running)

    async def run(
        self, report: ImageReport, stage: Stage, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a function in a thread and books its time to the stage, and the wait for a thread to "queue".

        A cancellation waits for the function when it has begun: what it holds is then free when the caller goes on,
        so that the memory of cancelled images counts against the same bound.
        """
        submitted = time.perf_counter()

        def timed() -> T:
            report.add_wait(time.perf_counter() - submitted)
            with report.stage(stage):
                return function(*args, **kwargs)

        # In a copy of this task's context, so that spans and log lines of the thread belong to the image too.
        future = self._pool.submit(copy_context().run, timed)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        result = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.wait([result])
                if not result.cancelled():
                    result.exception()  # Looked at, so that asyncio does not report it as lost.
            raise

    def close(self) -> None:
        """Ends the threads as soon as what runs in them has ended; what waits for them never runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
