"""The budget of images and encoded bytes that the whole process holds at once, so that its memory is bounded."""

from __future__ import annotations

import asyncio
from typing import Final

from cutstream_server.budget import Budget, Place
from cutstream_server.errors import OverloadedError

# A fraction of one image's time on a CPU: soon enough to find the next free place, rare enough to cost nothing.
RETRY_AFTER_SECONDS: Final = 0.5
# How long a unary call waits for its turn: some images' time on a CPU. Without a wait streams that always have the next
# image ready would take every place that comes free.
UNARY_WAIT_SECONDS: Final = 2.0


class Admission:
    """Counts images and bytes in flight. Streams wait their turn; unary calls wait a moment and are refused then.

    Args:
        max_images: most images at once.
        max_bytes: most bytes at once, of encoded images and of results that are not sent yet; at least the largest
            image allowed, or that image never gets in.

    Attributes:
        rejected: calls refused so far.
    """

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._budget = Budget(max_images, max_bytes)
        self.rejected = 0

    @property
    def max_images(self) -> int:
        """Most images at once."""
        return self._budget.max_count

    @property
    def max_bytes(self) -> int:
        """Most bytes at once."""
        return self._budget.max_amount

    @property
    def images(self) -> int:
        """Images admitted now."""
        return self._budget.count

    @property
    def bytes(self) -> int:
        """Bytes of the images admitted now, and of results that are not sent yet."""
        return self._budget.amount

    @property
    def waiting(self) -> int:
        """Images that wait for their turn."""
        return self._budget.waiting

    def work_done(self) -> int | None:
        """Gives the number of images admitted so far; None while one is in flight."""
        return None if self.images or self.bytes or self.waiting else self._budget.served

    async def admit(self, size_bytes: int) -> Place:
        """Waits until the image fits. Cancelling the wait gives the turn to the next."""
        return await self._budget.take(size_bytes)

    async def admit_soon(self, size_bytes: int) -> Place:
        """Waits for a moment.

        Raises:
            OverloadedError: when the image did not fit in time, or too many wait already.
        """
        if self.waiting >= self.max_images:
            raise self._refusal()
        try:
            async with asyncio.timeout(UNARY_WAIT_SECONDS):
                return await self.admit(size_bytes)
        except TimeoutError as error:
            raise self._refusal() from error

    def _refusal(self) -> OverloadedError:
        self.rejected += 1
        return OverloadedError(
            "the server is working on as many images as it may",
            retry_after_seconds=RETRY_AFTER_SECONDS,
            images_in_flight=self.images,
            max_in_flight=self.max_images,
            bytes_in_flight=self.bytes,
            max_bytes_in_flight=self.max_bytes,
        )
