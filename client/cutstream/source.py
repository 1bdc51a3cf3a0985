"""The images of a stream, taken one by one from whatever the caller iterates, with their bytes loaded."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar, cast

from cutstream.errors import CutoutError, source_unreadable
from cutstream.images import StreamImage, StreamInput, as_stream_image, encoded

T = TypeVar("T")


class ImageSource:
    """Takes images from an iterable or an async iterable.

    Iterators and files may block: they are read on one thread of this source. It never keeps the process alive, so an
    iterator that waits for ever cannot hold up the end of the stream or of the program.
    """

    def __init__(self, images: Iterable[StreamInput] | AsyncIterable[StreamInput]) -> None:
        if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
            raise TypeError("a stream takes an iterable of images: put the one image into a list, or use remove")
        self._worker = _Worker()
        self._iterator: Iterator[StreamInput] | AsyncIterator[StreamInput] = (
            aiter(images) if isinstance(images, AsyncIterable) else iter(images)
        )

    async def take(self) -> tuple[StreamImage, bytes | CutoutError] | None:
        """The next image with its bytes, or with the error of reading them; None at the end.

        Raises whatever the caller's iterator raises, and TypeError, ValueError for what cannot be an item.
        """
        iterator = self._iterator
        if isinstance(iterator, Iterator):
            return await self._worker.run(lambda: _take_next(iterator))
        try:
            item = as_stream_image(await anext(iterator))
        except StopAsyncIteration:
            return None
        return item, await self._worker.run(lambda: _load(item))

    def close(self) -> None:
        """Lets the thread end, as soon as the iterator lets go of it."""
        self._worker.close()


def _take_next(iterator: Iterator[StreamInput]) -> tuple[StreamImage, bytes | CutoutError] | None:
    try:
        item = as_stream_image(next(iterator))
    except StopIteration:
        return None
    return item, _load(item)


def _load(item: StreamImage) -> bytes | CutoutError:
    try:
        return encoded(item.image)
    except (OSError, ValueError) as error:
        return source_unreadable(error)


class _Worker:
    """Runs calls one after another on one daemon thread, which starts with the first.

    Not a ThreadPoolExecutor: the interpreter waits at its exit for the threads of one.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], concurrent.futures.Future[object]] | None]
        self._calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cutstream-source", daemon=True)
            self._thread.start()
        future: concurrent.futures.Future[object] = concurrent.futures.Future()
        self._calls.put((function, future))
        return cast("T", await asyncio.wrap_future(future))

    def close(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
                future.set_exception(error)
            # Holds no image while it waits for the next call.
            del call, function, future
