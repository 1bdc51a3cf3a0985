"""The streams of one session: each lane has one open, to a server of its own where there are several.

Between lanes an image goes to the one with the fewest unanswered images, so that slow and fast servers get what they
can do, and one that has stopped to answer keeps no more than its share. gRPC's own round robin would decide where a
stream goes once and for all, and two streams may meet at one server while another has none.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from cutstream.convert import connection_lost, cutout_from_proto, error_from_status
from cutstream.errors import UNAUTHENTICATED, CutoutError
from cutstream.retry import backoff_seconds
from cutstream.wire import StreamEndedError, Wire

if TYPE_CHECKING:
    from cutstream.connection import Connection
    from cutstream.session import OpenImage, StreamSession
    from cutstream.v1 import cutstream_pb2 as pb


class Lane:
    """Keeps a stream to its servers open while there is something to send.

    Args:
        session: whose images it sends.
        connection: to its servers.
        servers: their addresses; empty when the connection is not the lane's own.
    """

    def __init__(self, session: StreamSession, connection: Connection, servers: str) -> None:
        self._session = session
        self._connection = connection
        self.servers = servers
        self.has_left = False
        self.is_unreachable = False
        self.losses = 0
        """Streams that broke since the last answer."""
        self.token_renewed = False
        """Whether the last stream was ended for its token, and nothing has been answered since."""

    @property
    def streams(self) -> list[OpenStream]:
        """Those that are open, also the ones that are sent no more."""
        return [stream for stream in self._session.streams if stream.lane is self]

    @property
    def unanswered(self) -> int:
        """Images that were sent and not answered, given up or not."""
        return sum(len(stream.sent) for stream in self.streams)

    def has_room(self) -> bool:
        """Whether it has less than its share of the window: one that connects first leaves the others theirs."""
        return sum(stream.open_images for stream in self.streams) < self._session.share

    def leave(self) -> None:
        """Sends no more: the servers are not among the target's any longer."""
        self.has_left = True
        self._session.signal.notify()

    async def run(self) -> None:
        """Opens one stream after another until the session is over or the lane is to leave."""
        try:
            await self._work()
            await self._session.signal.until(lambda: not self.streams)
        finally:
            if self.servers:
                await self._connection.close()

    async def _work(self) -> None:
        session = self._session
        while True:
            await session.signal.until(lambda: session.outbox or session.is_over() or self.has_left)
            if self.has_left or not session.outbox:
                return
            try:
                await self._connection.reach()
            except CutoutError as error:
                self.is_unreachable = True
                if all(lane.is_unreachable for lane in session.lanes):
                    session.fail_unsent(error)
                continue
            self.is_unreachable = False
            stream = OpenStream(session, self, self._connection)
            session.spawn(stream.serve())
            await session.signal.until(stream.takes_no_more)
            if not stream.is_retired and not session.is_over():
                await asyncio.sleep(stream.pause_seconds)


class OpenStream:
    """One stream to one server, from its opening to its end."""

    def __init__(self, session: StreamSession, lane: Lane, connection: Connection) -> None:
        self._session = session
        self.lane = lane
        self._connection = connection
        self._wire = Wire(connection)
        self.sent: dict[str, OpenImage] = {}
        """Images that are not answered, given up or not."""
        self.abandoned: set[str] = set()
        """Ids that were given up and may still be answered."""
        self.takes = False
        """Whether it is ready for an image."""
        self.is_retired = False
        """Whether it sends no more, and is open for its answers only."""
        self.ended = asyncio.Event()
        self.pause_seconds = 0.0
        """How long the lane waits before its next stream; known at the end."""
        session.streams.add(self)

    @property
    def open_images(self) -> int:
        """Images whose answer is still wanted."""
        return len(self.sent) - len(self.abandoned)

    def takes_no_more(self) -> bool:
        """Whether the lane needs another stream."""
        return self.is_retired or self.ended.is_set()

    def has(self, image: OpenImage) -> bool:
        """Whether the image was sent here and is not answered."""
        return self.sent.get(image.image_id) is image

    def give_up(self, image: OpenImage) -> None:
        """Notes that an answer to the image is not wanted any more."""
        if self.has(image):
            self.abandoned.add(image.image_id)

    async def serve(self) -> None:
        """Sends and reads until all is answered or the stream breaks; then readies the unanswered for another one.

        Raises:
            CutoutError: the server refuses the stream, and would refuse the next.
        """
        try:
            error = await self._read()
            self._session.streams.discard(self)
            if error is not None:
                self._give_back(error)
        finally:
            self._session.streams.discard(self)
            self.ended.set()
            self._session.signal.notify()

    async def _read(self) -> CutoutError | None:
        """Reads to the end of the stream, while it is sent to: what broke it before all was answered."""
        sender = asyncio.create_task(self._send())
        try:
            async for result, data in self._wire.results():
                self._on_result(result, data)
        except CutoutError as error:
            return error
        finally:
            self._wire.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        if any(self._session.is_open(image) for image in self.sent.values()):
            return connection_lost("the stream ended before all its images were answered")
        return None

    def _give_back(self, error: CutoutError) -> None:
        session, lane = self._session, self.lane
        refused = error.reason == UNAUTHENTICATED and not lane.token_renewed
        if refused and self._connection.metadata() != self._wire.metadata:
            lane.token_renewed = True
            error = connection_lost("the token of the stream was replaced")
        if not error.retryable:
            raise error
        lane.losses += 1
        self.pause_seconds = (error.retry_after_seconds or 0.0) + backoff_seconds(lane.losses, session.settings.retry)
        tried = [image for image in self.sent.values() if session.is_open(image)]
        if not tried and not session.streams:
            # A stream that broke before it took an image was still an attempt, for those that had no other.
            tried = list(session.outbox)
        session.queue_again([image for image in tried if session.fail_or_wait(image, error) is not None])

    async def _send(self) -> None:
        session = self._session
        # When the stream has ended, its reader is told why.
        with contextlib.suppress(StreamEndedError):
            await self._wire.send_config(session.settings.options)
            while (image := await self._next_image()) is not None:
                self.sent[image.image_id] = image
                image.span.note("sending", size_bytes=len(image.data))
                is_wanted = partial(session.is_open, image)
                await self._wire.send_image(
                    image.image_id, image.data, image.options, image.span.traceparent, is_wanted
                )
            await self._wire.end_sending()

    async def _next_image(self) -> OpenImage | None:
        """The image that this stream is to send next; None when it is to send no more."""
        session = self._session
        self.takes = True
        await session.signal.until(
            lambda: session.is_over() or self.lane.has_left or (session.outbox and self._is_its_turn())
        )
        self.takes = False
        # The server may still answer an abandoned image: only another stream tells it from its namesake.
        is_namesake = bool(session.outbox) and session.outbox[0].image_id in self.abandoned
        self.is_retired = self.lane.has_left or is_namesake
        image = session.outbox.popleft() if session.outbox and not self.is_retired else None
        # Another stream may be the next in turn now, or is to be opened.
        session.signal.notify()
        return image

    def _is_its_turn(self) -> bool:
        others = [stream.lane for stream in self._session.streams if stream.takes and stream.lane.has_room()]
        return self.lane.has_room() and all(self.lane.unanswered <= other.unanswered for other in others)

    def _on_result(self, result: pb.ImageResult, data: bytes) -> None:
        session = self._session
        self.lane.losses, self.lane.token_renewed = 0, False
        self.abandoned.discard(result.image_id)
        image = self.sent.pop(result.image_id, None)
        if image is None or not session.is_open(image):
            return
        if result.HasField("cutout"):
            session.answer(image, cutout_from_proto(image.image_id, result.cutout, data, result.metrics))
            return
        metrics = result.metrics if result.HasField("metrics") else None
        wait_seconds = session.fail_or_wait(image, error_from_status(result.error, image.image_id, metrics))
        if wait_seconds is not None:
            asyncio.get_running_loop().call_later(wait_seconds, session.queue_again, [image])
