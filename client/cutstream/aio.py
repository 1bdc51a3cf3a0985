"""The asyncio client."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from cutstream.config import KeepAliveConfig, LoadBalancingConfig, RetryConfig, TLSConfig
from cutstream.connection import (
    DEFAULT_TARGET,
    Connection,
    Token,
    check_token_is_safe,
    grpc_target,
    is_pool,
    refuse_after_fork,
)
from cutstream.convert import cutout_errors, cutout_from_proto, server_info_from_proto
from cutstream.errors import CutoutError, deadline, source_unreadable
from cutstream.images import ImageInput, StreamInput, encoded
from cutstream.options import options_to_proto
from cutstream.pool import authority, find_servers
from cutstream.results import Cutout, ServerInfo
from cutstream.retry import Attempts
from cutstream.session import Result, StreamSession, StreamSettings
from cutstream.source import ImageSource
from cutstream.tracing import image_span
from cutstream.v1 import cutstream_pb2 as pb

if TYPE_CHECKING:
    from cutstream.options import Options

T = TypeVar("T")

# Well above the server's own limit for an image, and room for a restart in between.
DEFAULT_IMAGE_TIMEOUT_SECONDS = 300.0
DEFAULT_TIMEOUT_SECONDS = 120.0
DEFAULT_INFO_TIMEOUT_SECONDS = 10.0
DEFAULT_READY_TIMEOUT_SECONDS = 60.0


class AsyncClient:
    """Removes backgrounds by way of a Cutstream server, from asyncio code. `Client` is the same without asyncio.

    Connects on first use; use it on one event loop, and close it or use it as a context manager.

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
        >>> async def main() -> None:
        ...     async with AsyncClient("localhost:50051") as client:
        ...         cutout = await client.remove("photo.jpg", output_format="webp")
        ...         cutout.save("photo.webp")
        >>> asyncio.run(main())
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
        # Here already: closing what was begun crashes as well.
        refuse_after_fork()
        check_token_is_safe(target, tls, token)
        self._target = target
        self._address = grpc_target(target)
        self._tls = tls
        self._token = token
        self._keep_alive = keep_alive or KeepAliveConfig()
        self._retry = retry or RetryConfig()
        self._load_balancing = load_balancing or (LoadBalancingConfig() if is_pool(target) else None)
        self._connection: Connection | None = None
        self._sessions: weakref.WeakSet[StreamSession] = weakref.WeakSet()
        self._closed = False

    async def remove(
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
        request = pb.RemoveBackgroundRequest(image_id=image_id, options=options_to_proto(options))
        with image_span(image_id) as span:
            try:
                request.image = await asyncio.to_thread(encoded, image)
            except (OSError, ValueError) as error:
                raise source_unreadable(error) from error
            connection = self._connect()
            response = await _with_retries(
                connection,
                lambda seconds: connection.stub.RemoveBackground(
                    request, timeout=seconds, metadata=(*connection.metadata(), *span.headers)
                ),
                image_id,
                timeout_seconds,
            )
        return cutout_from_proto(response.image_id, response.cutout, response.cutout.image, response.metrics)

    def stream(
        self,
        images: Iterable[StreamInput] | AsyncIterable[StreamInput],
        *,
        window: int | None = None,
        window_bytes: int | None = None,
        ordered: bool = False,
        timeout_seconds: float | None = None,
        image_timeout_seconds: float | None = DEFAULT_IMAGE_TIMEOUT_SECONDS,
        streams: int | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Result, None]:
        """Cuts the object out of many images; every image comes out exactly once, as a Cutout or as a CutoutError.

        A failed image is yielded, not raised. A broken connection is replaced by a new one, possibly to another server,
        and only what is unanswered is sent again. `images` is read only as fast as results are taken, in another thread
        unless it is an async iterable. Leaving the loop early cancels the rest; from asyncio do that inside
        `contextlib.aclosing(client.stream(...))`, so that it happens at once.

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
        """
        session = self._new_session(
            images, window, window_bytes, ordered, timeout_seconds, image_timeout_seconds, streams, options
        )
        return _iterate(session)

    async def info(self, *, timeout_seconds: float | None = DEFAULT_INFO_TIMEOUT_SECONDS) -> ServerInfo:
        """Version, models, effective defaults, presets and limits of a server, also of one whose model is not ready.

        Raises:
            CutoutError: no server answered.
        """
        connection = self._connect()
        if self._load_balancing is None or not self._load_balancing.health_check:
            return await _info(connection, timeout_seconds)
        # The shared connection hides servers that are not ready.
        connection = self._new_connection(self._address, replace(self._load_balancing, health_check=False))
        try:
            return await _info(connection, timeout_seconds)
        finally:
            await connection.close()

    async def wait_ready(self, timeout_seconds: float = DEFAULT_READY_TIMEOUT_SECONDS) -> None:
        """Returns as soon as a server can remove backgrounds (grpc.health.v1 says SERVING).

        Raises:
            CutoutError: SERVER_UNREACHABLE or MODEL_UNAVAILABLE when that is not so in time.
        """
        await self._connect().wait_serving(timeout_seconds)

    async def close(self) -> None:
        """Cancels open streams and closes the connection; nothing to do the second time."""
        self._closed = True
        for session in list(self._sessions):
            await session.aclose()
        if self._connection is not None:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _new_session(
        self,
        images: Iterable[StreamInput] | AsyncIterable[StreamInput],
        window: int | None,
        window_bytes: int | None,
        ordered: bool,
        timeout_seconds: float | None,
        image_timeout_seconds: float | None,
        streams: int | None,
        options: Options,
    ) -> StreamSession:
        settings = StreamSettings(
            options_to_proto(options),
            window,
            window_bytes,
            ordered,
            timeout_seconds,
            image_timeout_seconds,
            streams,
            self._retry,
        )
        session = StreamSession(self._connect_to, self._find_servers, ImageSource(images), settings)
        self._sessions.add(session)
        return session

    def _connect(self) -> Connection:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._connection is None:
            self._connection = self._new_connection(self._address, self._load_balancing)
        return self._connection

    def _connect_to(self, servers: str) -> Connection:
        """To some of a pool's servers; without any, the connection that all calls share."""
        return self._new_connection(f"ipv4:{servers}", self._load_balancing) if servers else self._connect()

    async def _find_servers(self) -> Sequence[str]:
        is_spread = self._load_balancing is not None and self._load_balancing.policy == "round_robin"
        return await find_servers(self._address) if is_spread else ()

    def _new_connection(self, address: str, load_balancing: LoadBalancingConfig | None) -> Connection:
        return Connection(
            self._target,
            address,
            authority=authority(self._address),
            tls=self._tls,
            token=self._token,
            keep_alive=self._keep_alive,
            retry=self._retry,
            load_balancing=load_balancing,
        )


async def _iterate(session: StreamSession) -> AsyncGenerator[Result, None]:
    try:
        while (result := await session.next()) is not None:
            yield result
    finally:
        await session.aclose()


async def _info(connection: Connection, timeout_seconds: float | None) -> ServerInfo:
    request = pb.GetServerInfoRequest()
    response = await _with_retries(
        connection,
        lambda seconds: connection.stub.GetServerInfo(request, timeout=seconds, metadata=connection.metadata()),
        "",
        timeout_seconds,
    )
    return server_info_from_proto(response)


async def _with_retries(
    connection: Connection,
    call: Callable[[float | None], Awaitable[T]],
    image_id: str,
    timeout_seconds: float | None,
) -> T:
    """The answer of a unary call, which is given the seconds that remain; CutoutError when there is none in time."""
    loop = asyncio.get_running_loop()
    end = None if timeout_seconds is None else loop.time() + timeout_seconds
    attempts = Attempts(connection.retry)

    async def attempt_until_final() -> T:
        while True:
            await connection.reach()
            try:
                with cutout_errors():
                    return await call(None if end is None else end - loop.time())
            except CutoutError as error:
                error.image_id = image_id
                wait_seconds = attempts.wait_seconds(error)
                if wait_seconds is None:
                    raise
            await asyncio.sleep(wait_seconds)

    try:
        return await asyncio.wait_for(attempt_until_final(), timeout_seconds)
    except TimeoutError as error:
        assert timeout_seconds is not None
        late = deadline(timeout_seconds)
        late.image_id = image_id
        raise late from error
