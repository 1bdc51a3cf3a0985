"""How the API's methods are put on a server: so that they read their requests themselves.

The generated registration has gRPC take in a unary request whole before the method is asked, however many come at once,
and answer bytes that are no message as UNKNOWN with the parser's text. On the wire a unary call is a stream of one
message each way, so all methods are served as streams here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.errors import DeadlineError, ProtocolViolationError, UploadTimeoutError

if TYPE_CHECKING:
    from cutstream_server.rpc.servicer import BackgroundRemovalServicer

M = TypeVar("M", bound=Message)
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def add_handlers(servicer: BackgroundRemovalServicer, server: grpc.aio.Server) -> None:
    """Serves the methods of the API."""
    service = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"]
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        method.name: grpc.stream_stream_rpc_method_handler(
            getattr(servicer, method.name), response_serializer=_serialize
        )
        for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


async def receive(context: Context, kind: type[M], pause_seconds: float | None = None) -> M | None:
    """Reads the next message of a call; None at the end.

    Args:
        context: the call.
        kind: what the message must be.
        pause_seconds: how long to wait for it; None for ever.

    Raises:
        UploadTimeoutError: nothing came.
        ProtocolViolationError: the bytes are no such message.
    """
    try:
        async with asyncio.timeout(pause_seconds):
            data = await context.read()
    except TimeoutError as error:
        raise UploadTimeoutError("the client sends nothing", timeout_seconds=pause_seconds) from error
    return None if data is grpc.aio.EOF else parse(data, kind)


def parse(data: bytes, kind: type[M]) -> M:
    """Makes a message of bytes.

    Raises:
        ProtocolViolationError: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolViolationError(f"the bytes received are no {kind.DESCRIPTOR.name}") from error


async def send(context: Context, message: Message, pause_seconds: float) -> None:
    """Writes a message as soon as the client takes it.

    Raises:
        DeadlineError: the client took nothing for so long.
    """
    try:
        async with asyncio.timeout(pause_seconds):
            await context.write(message)
    except TimeoutError as error:
        raise DeadlineError("the client does not read its answers", timeout_seconds=pause_seconds) from error


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
