"""One stream to a server in the protocol of StreamRemoveBackground; knows nothing of windows and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from cutstream.convert import cutout_errors
from cutstream.tracing import stream_span
from cutstream.v1 import cutstream_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from cutstream.connection import Connection

# The fastest size measured by the API's authors lies between 256 KiB and 1 MiB.
CHUNK_BYTES = 512 * 1024


class StreamEndedError(Exception):
    """Nothing more can be sent; `Wire.results` raises the reason."""


class Wire:
    """An open stream."""

    def __init__(self, connection: Connection) -> None:
        self.metadata = connection.metadata()
        """With the token that opened it."""
        self._span = stream_span()
        self._call = connection.stub.StreamRemoveBackground(metadata=(*self.metadata, *self._span.headers))

    async def send_config(self, options: pb.RemovalOptions) -> None:
        """The stream's first message. StreamEndedError."""
        await self._write(pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=options)))

    async def send_image(
        self, image_id: str, data: bytes, options: pb.RemovalOptions, traceparent: str, is_wanted: Callable[[], bool]
    ) -> None:
        """All chunks of an image; breaks off when the image is answered early or given up. StreamEndedError."""
        for start in range(0, max(len(data), 1), CHUNK_BYTES):
            if not is_wanted():
                # The server discards the image up to its `last`.
                await self._write_chunk(pb.ImageChunk(image_id=image_id, last=True))
                return
            end = start + CHUNK_BYTES
            chunk = pb.ImageChunk(image_id=image_id, data=data[start:end], last=end >= len(data))
            if start == 0:
                chunk.size_bytes = len(data)
                chunk.traceparent = traceparent
                chunk.options.CopyFrom(options)
            await self._write_chunk(chunk)

    async def end_sending(self) -> None:
        """Tells the server that nothing more comes: it answers what it has, then ends the stream. StreamEndedError."""
        try:
            await self._call.done_writing()
        except (cygrpc.InternalError, asyncio.InvalidStateError) as error:
            raise StreamEndedError from error

    async def results(self) -> AsyncIterator[tuple[pb.ImageResult, bytes]]:
        """Each answer with the bytes of its cutout, up to the stream's end. CutoutError when that is not OK."""
        chunks: dict[str, list[bytes]] = {}
        with self._span, cutout_errors():
            # Not `call.read`: that drops the answers still to be read once it knows that the stream ended.
            async for message in self._call:
                if message.HasField("cutout_chunk"):
                    chunks.setdefault(message.cutout_chunk.image_id, []).append(message.cutout_chunk.data)
                elif message.HasField("image"):
                    result = message.image
                    yield result, b"".join(chunks.pop(result.image_id, ())) or result.cutout.image

    def cancel(self) -> None:
        """Ends the stream at once; nothing happens when it has ended."""
        self._call.cancel()

    async def _write_chunk(self, chunk: pb.ImageChunk) -> None:
        await self._write(pb.StreamRemoveBackgroundRequest(chunk=chunk))

    async def _write(self, request: Message) -> None:
        """`call.write` without its fault (grpcio 1.81 to 1.85): a write that meets the end of the stream overwrites the
        status that the server sent, DRAINING or INVALID_OPTIONS, with an INTERNAL of its own.
        """
        try:
            await self._call.wait_for_connection()
            await self._call._cython_call.send_serialized_message(request.SerializeToString())  # type: ignore[attr-defined]
        except (grpc.aio.AioRpcError, cygrpc.InternalError, asyncio.InvalidStateError) as error:
            raise StreamEndedError from error
