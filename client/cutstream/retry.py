"""Which failures are tried again, and how long to wait before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from cutstream.errors import INTERNAL_FAULT

if TYPE_CHECKING:
    from cutstream.config import RetryConfig
    from cutstream.errors import CutoutError

# A fault of the server's own may be bad luck once; twice it is the image.
_MAX_INTERNAL_FAULTS = 2


def backoff_seconds(failures: int, config: RetryConfig) -> float:
    """A random wait after that many failures in a row (1 or more): full jitter, 0 to the current back-off.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = config.initial_backoff_seconds
    for _ in range(failures - 1):
        ceiling = min(ceiling * config.backoff_multiplier, config.max_backoff_seconds)
        if ceiling == config.max_backoff_seconds:
            break
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing


class Attempts:
    """How often one image has failed, and whether it is sent again."""

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self._failures = 0
        self._internal_faults = 0

    def wait_seconds(self, error: CutoutError) -> float | None:
        """Counts one more failure: the wait before the next attempt, or None when the error is final."""
        self._failures += 1
        self._internal_faults += error.reason == INTERNAL_FAULT
        most = self._config.max_attempts
        if (
            not error.retryable
            or (most is not None and self._failures >= most)
            or self._internal_faults >= _MAX_INTERNAL_FAULTS
        ):
            return None
        # Jitter comes on top of the server's own wish, so that all clients it sent away do not return together.
        return (error.retry_after_seconds or 0.0) + backoff_seconds(self._failures, self._config)
