"""Asks every call for a token before a byte of its request is read."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health

from cutstream_server.errors import CutstreamError
from cutstream_server.rpc.converters import abort
from cutstream_server.rpc.security.tokens import Tokens

logger = logging.getLogger(__name__)

# Probes and balancers have no token, and health tells nothing but whether images are taken.
OPEN_SERVICES: Final = (f"/{health.SERVICE_NAME}/",)
# A stream may be open for days: so long after a token was withdrawn its streams end.
RECHECK_SECONDS: Final = 5.0
# Whoever tries tokens must not fill the log.
_LOG_PAUSE_SECONDS: Final = 10.0
_METHOD_SHOWN: Final = 100

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls with a token of the file pass. Unknown methods need one too, so that nothing can be probed."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._logged_at = -_LOG_PAUSE_SECONDS
        self._unlogged = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Gives the method's own handler, or one that refuses the call."""
        method = handler_call_details.method
        if method.startswith(OPEN_SERVICES):
            return await continuation(handler_call_details)
        values = [str(value) for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        check = partial(self._tokens.authorize, values, method)
        try:
            check()
        except CutstreamError as error:
            return self._refusal(method, error)
        handler = await continuation(handler_call_details)
        # Reflection streams are generators; they say what the public API definition says and need no second look.
        if handler is None or not inspect.iscoroutinefunction(handler.stream_stream):
            return handler
        return grpc.stream_stream_rpc_method_handler(
            partial(_run_while_allowed, handler.stream_stream, check),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _refusal(self, method: str, error: CutstreamError) -> Handler:
        async def refuse(requests: object, context: Context) -> None:
            del requests
            self._log(method, context.peer(), error)
            await abort(context, error)

        # Whatever the method is: a handler of a unary one would be called after its whole request has been received.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _log(self, method: str, peer: str, error: CutstreamError) -> None:
        now = time.monotonic()
        if now - self._logged_at < _LOG_PAUSE_SECONDS:
            self._unlogged += 1
            return
        earlier = f" ({self._unlogged} more since the last such line)" if self._unlogged else ""
        logger.warning("refused %s from %s: %s%s", method[:_METHOD_SHOWN], peer, error.message, earlier)
        self._logged_at, self._unlogged = now, 0


async def _run_while_allowed(
    stream: Callable[[Any, Context], Awaitable[None]], check: Callable[[], None], requests: Any, context: Context
) -> None:
    """Runs a stream and ends it when its token opens it no more; images that are not answered then are lost."""
    work = asyncio.ensure_future(stream(requests, context))
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=RECHECK_SECONDS)
            if not work.done():
                check()
        work.result()
    except CutstreamError as error:
        withdrawn = error
    else:
        return
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await abort(context, withdrawn)
