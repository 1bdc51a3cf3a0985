"""The budget of images and encoded bytes that the whole process holds at once, so that its memory is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from cutstream_server.errors import OverloadedError

# A fraction of one image's time on a CPU: soon enough to find the next free place, rare enough to cost nothing.
RETRY_AFTER_SECONDS = 0.5


@dataclass
class _Waiter:
    size_bytes: int
    admitted: asyncio.Future[None]


class Place:
    """One admitted image. Releasing it twice is harmless, so that every path may."""

    def __init__(self, admission: Admission, size_bytes: int) -> None:
        self._admission = admission
        self._size_bytes = size_bytes
        self._held = True

    def release(self) -> None:
        """Gives the image and its bytes back to the budget."""
        if self._held:
            self._held = False
            self._admission._give_back(self._size_bytes)


class Admission:
    """Counts images and bytes in flight. Unary calls are refused when it is full; streams wait their turn.

    Waiters are served strictly in order: a large image is not overtaken for ever by small ones, and as a stream waits
    for one image at a time, streams take turns.

    Args:
        max_images: most images at once.
        max_bytes: most encoded bytes at once; at least the largest image allowed, or that image never gets in.
    """

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._images = 0
        self._bytes = 0
        self._waiters: deque[_Waiter] = deque()

    @property
    def images(self) -> int:
        """Images admitted now."""
        return self._images

    def admit_now(self, size_bytes: int) -> Place:
        """Admits an image at once.

        Raises:
            OverloadedError: when the budget is spent or others wait already.
        """
        if self._waiters or not self._fits(size_bytes):
            raise OverloadedError(
                "the server is working on as many images as it may",
                retry_after_seconds=RETRY_AFTER_SECONDS,
                images_in_flight=self._images,
                max_in_flight=self._max_images,
                bytes_in_flight=self._bytes,
                max_bytes_in_flight=self._max_bytes,
            )
        return self._take(size_bytes)

    async def admit(self, size_bytes: int) -> Place:
        """Waits until the image fits. Cancelling the wait gives the turn to the next."""
        if not self._waiters and self._fits(size_bytes):
            return self._take(size_bytes)
        waiter = _Waiter(size_bytes, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.cancelled():
                self._serve_waiters()
            else:  # Admitted in the same turn of the loop as the cancellation.
                self._give_back(size_bytes)
            raise
        return Place(self, size_bytes)

    def _fits(self, size_bytes: int) -> bool:
        return self._images < self._max_images and self._bytes + size_bytes <= self._max_bytes

    def _take(self, size_bytes: int) -> Place:
        self._images += 1
        self._bytes += size_bytes
        return Place(self, size_bytes)

    def _give_back(self, size_bytes: int) -> None:
        self._images -= 1
        self._bytes -= size_bytes
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.admitted.cancelled():
                if not self._fits(waiter.size_bytes):
                    return
                self._take(waiter.size_bytes)
                waiter.admitted.set_result(None)
            self._waiters.popleft()
