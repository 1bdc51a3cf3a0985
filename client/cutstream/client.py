"""The blocking client: `AsyncClient` on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Coroutine, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from cutstream.aio import (
    DEFAULT_IMAGE_TIMEOUT_SECONDS,
    DEFAULT_INFO_TIMEOUT_SECONDS,
    DEFAULT_READY_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    AsyncClient,
)
from cutstream.config import KeepAliveConfig, LoadBalancingConfig, RetryConfig, TLSConfig
from cutstream.connection import DEFAULT_TARGET, Token
from cutstream.images import ImageInput, StreamInput
from cutstream.results import Cutout, ServerInfo
from cutstream.session import Result, StreamSession

if TYPE_CHECKING:
    from cutstream.options import Options

T = TypeVar("T")


class Client:
    """Removes backgrounds by way of a Cutstream server.

    Connects on first use. Safe to share between threads, not between processes: a process that is forked once a
    client was used can have none at all (RuntimeError), so start workers by "spawn" or "forkserver". Close it or use it
    as a context manager. The arguments are those of `AsyncClient`.

    Args:
        target: `host:port`; `dns:///host:port` for all addresses of a name; or `host:port,host:port,...`.
        tls: encryption; None talks plain text.
        token: a bearer token, or a function that returns one; refused without TLS except on this machine.
        keep_alive: pings on quiet connections.
        retry: back-off and bounds of retries.
        load_balancing: how calls spread over servers. None: round robin over healthy servers when the target is a list
            or begins with dns:, otherwise whatever answers there.

    Raises:
        ValueError: the target cannot be understood, or the token cannot be sent or would travel in plain text.

    Example:
        >>> with Client("localhost:50051") as client:
        ...     cutout = client.remove("photo.jpg", output_width_px=256)
        ...     cutout.save("photo.cutout.png").name
        'photo.cutout.png'
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: TLSConfig | None = None,
        token: Token | None = None,
        keep_alive: KeepAliveConfig | None = None,
        retry: RetryConfig | None = None,
        load_balancing: LoadBalancingConfig | None = None,
    ) -> None:
        self._client = AsyncClient(
            target, tls=tls, token=token, keep_alive=keep_alive, retry=retry, load_balancing=load_balancing
        )
        self._loop = _LoopThread()
        # Also at the exit of the interpreter, for a client that nobody closed.
        self._finalizer = weakref.finalize(self, _shut_down, self._client, self._loop)

    def remove(
        self,
        image: ImageInput,
        *,
        image_id: str = "",
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[Options],
    ) -> Cutout:
        """Cuts the object out of one image.

        Args:
            image: a path, encoded bytes, a PIL image, or a uint8 array (H, W, 3) RGB or (H, W, 4) RGBA.
            image_id: echoed in the cutout, in traces and in the server's logs.
            timeout_seconds: bounds all attempts together; None waits as long as RetryConfig does.
            options: see `Options`.

        Raises:
            CutoutError: there is no cutout; `reason` says why.
            TypeError, ImportError: `image` is nothing that can be sent, or needs Pillow.
        """
        return self._run(self._client.remove(image, image_id=image_id, timeout_seconds=timeout_seconds, **options))

    def stream(
        self,
        images: Iterable[StreamInput],
        *,
        window: int | None = None,
        window_bytes: int | None = None,
        ordered: bool = False,
        timeout_seconds: float | None = None,
        image_timeout_seconds: float | None = DEFAULT_IMAGE_TIMEOUT_SECONDS,
        streams: int | None = None,
        **options: Unpack[Options],
    ) -> Generator[Result, None, None]:
        """Cuts the object out of many images; every image comes out exactly once, as a Cutout or as a CutoutError.

        A failed image is yielded, not raised. A broken connection is replaced by a new one, possibly to another server,
        and only what is unanswered is sent again. `images` is read in another thread, and only as fast as results are
        taken. Leaving the loop early cancels the rest.

        Args:
            images: images, pairs (image_id, image), or `StreamImage` with options of their own. An image without id
                gets its path if that has at most 256 bytes, else its number in the stream, from 0. Images of one id
                are never in work together.
            window: most images taken from `images` and not yet yielded. None: 8 for each stream.
            window_bytes: most encoded bytes of unanswered images, one image more than fits may be loaded already.
                None: 64 MiB for each stream.
            ordered: yield in the order of `images` instead of the order of completion.
            timeout_seconds: bounds the whole stream: what is unanswered then comes out as DEADLINE.
            image_timeout_seconds: bounds one image from its reading to its answer, all attempts together.
            streams: how many streams to open, over all servers of a pool; an image goes to the one with the fewest
                unanswered. None: one for each server, 16 at most.
            options: of every image that does not set its own, see `Options`.

        Raises:
            CutoutError: at once for wrong options; while iterating when the server refuses the stream as a whole
                (UNAUTHENTICATED, INVALID_OPTIONS, ...), or after `timeout_seconds` with `images` not read to its end.
            Exception: what the iterator `images` raised, or TypeError for what is no image; after the results of
                everything taken before.

        Example:
            >>> from pathlib import Path
            >>> with Client("localhost:50051") as client:
            ...     for result in client.stream(Path().glob("*.jpg"), preset="trellis"):
            ...         if isinstance(result, Cutout):
            ...             print(result.image_id, result.width_px)
            ...         else:
            ...             print(result.image_id, result.reason)
            photo.jpg 518
        """
        session = self._client._new_session(
            images, window, window_bytes, ordered, timeout_seconds, image_timeout_seconds, streams, options
        )
        return self._iterate(session)

    def info(self, *, timeout_seconds: float | None = DEFAULT_INFO_TIMEOUT_SECONDS) -> ServerInfo:
        """Version, models, effective defaults, presets and limits of a server, also of one whose model is not ready.

        Raises:
            CutoutError: no server answered.
        """
        return self._run(self._client.info(timeout_seconds=timeout_seconds))

    def wait_ready(self, timeout_seconds: float = DEFAULT_READY_TIMEOUT_SECONDS) -> None:
        """Returns as soon as a server can remove backgrounds (grpc.health.v1 says SERVING).

        Raises:
            CutoutError: SERVER_UNREACHABLE or MODEL_UNAVAILABLE when that is not so in time.
        """
        self._run(self._client.wait_ready(timeout_seconds))

    def close(self) -> None:
        """Cancels open streams and closes the connection; nothing to do the second time."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self, session: StreamSession) -> Generator[Result, None, None]:
        try:
            while (result := self._run(session.next())) is not None:
                yield result
        finally:
            # A closed client has closed its streams.
            if self._finalizer.alive:
                self._loop.finish(session.aclose())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if not self._finalizer.alive:
            coroutine.close()
            raise RuntimeError("this client is closed")
        return self._loop.run(coroutine)


class _LoopThread:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutstream-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, waited for by this thread. An interrupt here cancels it there."""
        if not self.is_ours():
            coroutine.close()
            raise RuntimeError(
                "this Client was made before a fork, which gRPC does not survive: start workers by "
                '"spawn" or "forkserver" and make a client in each'
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """The same for work of which nobody wants the result, possibly called by the garbage collector.

        That may run on the loop's own thread, which cannot wait for itself: there the work is only begun.
        """
        if self.is_current():
            asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        else:
            self.run(coroutine)

    def is_ours(self) -> bool:
        """Whether the thread is one of this process: threads do not survive a fork."""
        return self._pid == os.getpid()

    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancels what still runs, so that no thread waits for it for ever, and ends the thread."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _shut_down(client: AsyncClient, loop: _LoopThread) -> None:
    if not loop.is_ours():
        return
    if loop.is_current():
        threading.Thread(target=_shut_down, args=(client, loop), name="cutstream-shutdown").start()
        return
    with contextlib.suppress(Exception):
        loop.run(client.close())
    loop.stop()
