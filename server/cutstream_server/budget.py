"""A budget that many share: a number of things, and an amount of bytes or pixels, at once."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass
class _Waiter:
    amount: int
    served: asyncio.Future[None]


class Place:
    """What one thing holds of a budget. Releasing it twice is harmless, so that every path may."""

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget = budget
        self._count = 1
        self._amount = amount

    def change(self, *, amount: int, counts: bool = True) -> None:
        """Holds so much from now on, even if it is more than is free: it is there already.

        Args:
            amount: bytes or pixels.
            counts: whether it is still one of the things that are counted.
        """
        count = int(counts)
        count, self._count = count - self._count, count
        amount, self._amount = amount - self._amount, amount
        self._budget._hold(count, amount)

    def release(self) -> None:
        """Gives back all that it holds."""
        self.change(amount=0, counts=False)


class Budget:
    """Gives places until the count or the amount is spent; then one waits.

    Waiters are served strictly in order: a large thing is not overtaken for ever by small ones. Whoever waits for one
    thing at a time takes turns with all others, however much they want.

    Args:
        max_count: most things at once.
        max_amount: most bytes or pixels at once; a single thing is never larger, or it would never be served.

    Attributes:
        served: places given so far.
        count: things that hold a place now.
        amount: what they hold.
    """

    def __init__(self, max_count: int, max_amount: int) -> None:
        self.max_count = max_count
        self.max_amount = max_amount
        self.served = 0
        self.count = 0
        self.amount = 0
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """Those who wait for their turn."""
        return len(self._waiters)

    async def take(self, amount: int) -> Place:
        """Waits for a place. Cancelling the wait gives the turn to the next."""
        if not self._waiters and self._fits(amount):
            self.served += 1
            self._hold(1, amount)
            return Place(self, amount)
        waiter = _Waiter(amount, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.served
        except asyncio.CancelledError:
            if waiter.served.cancelled():
                self._serve_waiters()
            else:  # Served in the same turn of the loop as the cancellation.
                self._hold(-1, -amount)
            raise
        return Place(self, amount)

    def _fits(self, amount: int) -> bool:
        return self.count < self.max_count and self.amount + amount <= self.max_amount

    def _hold(self, count: int, amount: int) -> None:
        self.count += count
        self.amount += amount
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.served.cancelled():
                if not self._fits(waiter.amount):
                    return
                self.served += 1
                self.count += 1
                self.amount += waiter.amount
                waiter.served.set_result(None)
            self._waiters.popleft()
