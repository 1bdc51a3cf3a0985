"""Gives memory back to the system when there is nothing to do.

The C library keeps what was freed for the next image, in pieces that grow with every size and thread it has seen:
hundreds of MiB after a busy hour, which containers beside this one could use.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final

IDLE_SECONDS: Final = 5.0
# The C library makes up to eight heaps a core, and what one of them has freed no other one uses. With two the service
# holds 90 MiB when idle instead of 150, Triton 200 to 300 after bursts instead of 280 to 375, and neither is slower
# (benchmarks/robustness/soak.py).
MOST_HEAPS: Final = 2
M_ARENA_MAX: Final = -8
"""Of malloc.h."""


def limit_heaps() -> None:
    """Has the threads of this process share heaps; to be called before there are any."""
    limit = getattr(ctypes.CDLL(None), "mallopt", None)
    if limit is not None:
        limit(M_ARENA_MAX, MOST_HEAPS)


def trim_own_memory() -> None:
    """Has the C library give back what it can; one without `malloc_trim`, such as musl, keeps little anyway."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def trim_when_idle(work_done: Callable[[], int | None], trim: Callable[[], None]) -> None:
    """Trims once in each pause of the work, for ever.

    Args:
        work_done: tells how much has been begun so far, None while something is under way.
        trim: gives memory back; runs in a thread.
    """
    trimmed = seen = work_done()
    while True:
        await asyncio.sleep(IDLE_SECONDS)
        done = work_done()
        if done is not None and done == seen != trimmed:
            await asyncio.to_thread(trim)
            trimmed = done
        seen = done
