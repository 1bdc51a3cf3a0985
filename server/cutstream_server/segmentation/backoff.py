"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first` to `most` seconds, each drawn from half to one and a half times its length.

    The draw keeps several servers that lost the same Triton from coming back in step.
    """

    def __init__(self, first: float = 0.1, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def next_delay(self) -> float:
        """Gives the seconds to wait now."""
        delay, self._next = self._next, min(self._most, 2 * self._next)
        return delay * random.uniform(0.5, 1.5)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begins again with the first wait."""
        self._next = self._first
