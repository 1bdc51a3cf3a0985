"""The service's side of the decoders."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cutstream_server.decoding import process
from cutstream_server.decoding.memory import KEPT_BYTES, SharedMemory, aligned
from cutstream_server.errors import CutstreamError, DeadlineError, ImageUndecodableError
from cutstream_server.imaging.decode import Pixels, SourceImage
from cutstream_server.imaging.header import Header

logger = logging.getLogger(__name__)

# What a decoder may take beside what the header justifies: the libraries' tables and windows, and no more than a bomb
# may cost. One that holds the pixels three times, in 16 bits with alpha and as floats, stays below the second.
ALLOWED_BYTES: Final = 48 << 20
ALLOWED_BYTES_PER_PIXEL: Final = 64
# Processor time: 25 times what any small file of the tests takes, and 15 times what the slowest kinds take for a pixel
# (benchmarks/robustness/isolation.py). Only a file that is made for it needs more.
ALLOWED_CPU_SECONDS: Final = 0.25
ALLOWED_CPU_SECONDS_PER_PIXEL: Final = 5e-7
# Beyond the decoder's own alarm; it is missed only by a decoder that somebody has stopped.
ALARM_GRACE_SECONDS: Final = 5.0
# For the parent process, which loads the libraries first; afterwards it answers within milliseconds.
NURSERY_SECONDS: Final = 30.0
TIME_IS_UP: Final = (-signal.SIGALRM, -signal.SIGPROF)


class DecoderPool:
    """Decoders in processes of their own, as many as callers at a time. Its methods may be called by any thread.

    Args:
        max_pixels: the most pixels that are decoded, whatever a header says.
        seconds: the most time for one image.
    """

    def __init__(self, *, max_pixels: int, seconds: float) -> None:
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._nursery: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def start(self) -> None:
        """Start the program that makes the decoders, without waiting for it: the first image does that."""
        with self._lock:
            self._start_nursery()

    def decode(self, data: bytes, header: Header) -> SourceImage:
        """Decode an image as `imaging.decode.decode_image` does.

        Args:
            data: the whole file.
            header: what it claims, for the bound on memory.

        Raises:
            CutstreamError: those of `decode_image`; also ImageUndecodableError when the file crashes the decoder, and
                DeadlineError when it takes too long.
        """
        try:
            return self._decode(data, header)
        except DecoderLostError as error:
            if error.status != -signal.SIGKILL:
                raise self._blame(data, header, error) from error
        # Somebody else killed the decoder, for want of memory in the machine, say: that is not yet the image's fault.
        try:
            return self._decode(data, header)
        except DecoderLostError as error:
            raise self._blame(data, header, error) from error

    def _blame(self, data: bytes, header: Header, error: DecoderLostError) -> CutstreamError:
        """Log that an image has ended its decoder, and make the error that tells the caller."""
        # The digest, so that the file can be found again where it is at hand; it is not kept here.
        end = f"exit status {error.status}" if error.status >= 0 else signal.Signals(-error.status).name
        digest = sha256(data).hexdigest()
        logger.error("a %s image of %d bytes ended its decoder: %s, sha256 %s", header.format, len(data), end, digest)
        if error.status in TIME_IS_UP:
            return DeadlineError(
                "decoding the image takes far longer than its size needs", timeout_seconds=self._seconds
            )
        return ImageUndecodableError(
            f"the {header.format} image is damaged in a way that crashes its decoder", format=header.format
        )

    def trim(self) -> None:
        """Have idle decoders give memory back that they keep for the next image."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            try:
                decoder.trim()
            except DecoderLostError:
                self._end(decoder)
            else:
                self._put_back(decoder)

    def close(self) -> None:
        """End all processes; no call may be under way."""
        with self._lock:
            for decoder in self._idle:
                decoder.close()
            self._idle.clear()
            self._end_nursery()

    def _decode(self, data: bytes, header: Header) -> SourceImage:
        decoder = self._take()
        try:
            image = decoder.decode(data, header, self._max_pixels, self._seconds)
        except DecoderLostError as error:
            error.status = self._end(decoder)
            raise
        except BaseException:
            self._put_back(decoder)
            raise
        self._put_back(decoder)
        return image

    def _take(self) -> _Decoder:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            try:
                return _Decoder(self._start_nursery())
            except (OSError, ValueError):
                logger.warning("the decoders' parent process does not answer; another one is started")
                self._end_nursery()
                return _Decoder(self._start_nursery())

    def _end(self, decoder: _Decoder) -> int:
        """Let a decoder go and give the exit status that it had."""
        decoder.close()
        with self._lock:
            try:
                return decoder.end(self._start_nursery())
            except (OSError, ValueError):
                # The parent process has gone or hangs. One that goes on would give this answer to the next question.
                self._end_nursery()
                return -signal.SIGKILL

    def _put_back(self, decoder: _Decoder) -> None:
        with self._lock:
            self._idle.append(decoder)

    def _start_nursery(self) -> socket.socket:
        if self._nursery is None or self._nursery[0].poll() is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                program = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", process.__name__],
                    stdin=theirs.fileno(),
                    # Nothing of the service's environment, which may hold secrets, and no threads for algebra that a
                    # decoder never does.
                    env={"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
                    # A Ctrl-C in the terminal is for the service, which drains.
                    start_new_session=True,
                )
            ours.settimeout(NURSERY_SECONDS)
            self._nursery = program, ours
        return self._nursery[1]

    def _end_nursery(self) -> None:
        if self._nursery:
            program, control = self._nursery
            control.close()
            program.kill()
            program.wait()
            self._nursery = None


class DecoderLostError(Exception):
    """The decoder has ended in the middle of its work.

    Attributes:
        status: its exit status, negative for a signal.
    """

    status: int = 0


class _Decoder:
    """The connection to one decoder, for one caller at a time."""

    def __init__(self, nursery: socket.socket) -> None:
        self._source = os.memfd_create("cutstream-image")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Reentrant: arrays are also freed by the garbage collector, whatever this thread is doing.
        self._lock = threading.RLock()
        self._memories: dict[int, SharedMemory] = {}
        self._free: list[int] = []
        self._gone: list[int] = []
        self._next = 0
        with theirs:
            socket.send_fds(nursery, [b"fork"], [theirs.fileno(), self._source])
        self._pid = int(nursery.recv(process.PID_BYTES))

    def decode(self, data: bytes, header: Header, max_pixels: int, seconds: float) -> SourceImage:
        """Decode an image into memory that is free again when the last array of it has gone.

        Raises:
            DecoderLostError: the decoder is of no use any more.
            CutstreamError: the image is at fault.
        """
        os.ftruncate(self._source, len(data))
        _write(self._source, data)
        number, files = self._take_memory()
        try:
            answer = self._ask(
                {
                    "bytes": len(data),
                    "memory": number,
                    "max_pixels": max_pixels,
                    "allowed_bytes": ALLOWED_BYTES + ALLOWED_BYTES_PER_PIXEL * header.pixels,
                    "allowed_cpu_seconds": ALLOWED_CPU_SECONDS + ALLOWED_CPU_SECONDS_PER_PIXEL * header.pixels,
                    "allowed_seconds": seconds,
                },
                files,
                seconds + ALARM_GRACE_SECONDS,
            )
        finally:
            if len(data) > KEPT_BYTES:
                os.ftruncate(self._source, 0)
        if "reason" in answer:
            self._put_back(number)
            raise _error(answer)
        return self._image(answer, number)

    def trim(self) -> None:
        """Drop the memory that is free, here and there.

        Raises:
            DecoderLostError: see `decode`.
        """
        os.ftruncate(self._source, 0)
        with self._lock:
            while self._free:
                self._drop(self._free.pop())
        self._ask({}, [], ALARM_GRACE_SECONDS)

    def close(self) -> None:
        """Let go of it; what is still used of its memory stays until the last array of it has gone."""
        with self._lock:
            self._free.clear()
            while self._memories:
                self._drop(next(iter(self._memories)))
        self._socket.close()
        os.close(self._source)

    def end(self, nursery: socket.socket) -> int:
        """Have its process ended, and give its exit status."""
        nursery.send(b"%d" % self._pid)
        return int(nursery.recv(process.PID_BYTES))

    def _ask(self, request: dict[str, Any], files: list[int], seconds: float) -> dict[str, Any]:
        with self._lock:
            request["forget"], self._gone = self._gone, []
        self._socket.settimeout(seconds)
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(process.MESSAGE_BYTES)
        except OSError as error:
            raise DecoderLostError from error
        if not answer:
            raise DecoderLostError
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _image(self, answer: dict[str, Any], number: int) -> SourceImage:
        """Make arrays of the memory without a copy."""
        height, width = int(answer["height"]), int(answer["width"])
        samples: npt.DTypeLike = np.uint16 if answer["deep"] else np.uint8
        colour_bytes = height * width * 3 * np.dtype(samples).itemsize
        alpha_at = aligned(colour_bytes)
        view = self._memories[number].view(alpha_at + (height * width * 4 if answer["alpha"] else 0))
        # Every array made of it keeps it alive: numpy follows the bases of arrays only, and its own base is none.
        weakref.finalize(view, self._put_back, number).atexit = False
        rgb: Pixels = view[:colour_bytes].view(samples).reshape(height, width, 3)
        alpha = view[alpha_at:].view(np.float32).reshape(height, width) if answer["alpha"] else None
        return SourceImage(rgb, alpha, answer["format"], answer["orientation"])

    def _take_memory(self) -> tuple[int, list[int]]:
        """Give the number of a free memory, and its file when the decoder does not know it yet."""
        with self._lock:
            if self._free:
                return self._free.pop(), []
            number, self._next = self._next, self._next + 1
            memory = self._memories[number] = SharedMemory.create()
            return number, [memory.file]

    def _put_back(self, number: int) -> None:
        with self._lock:
            if number not in self._memories:  # It was closed in the meantime.
                return
            if self._memories[number].file_size > KEPT_BYTES:
                self._drop(number)
            else:
                self._free.append(number)

    def _drop(self, number: int) -> None:
        self._memories.pop(number).close()
        self._gone.append(number)


def _write(file: int, data: bytes) -> None:
    view, at = memoryview(data), 0
    while at < len(data):
        at += os.pwrite(file, view[at:], at)


def _error(answer: dict[str, Any]) -> CutstreamError:
    """Rebuild the error that a decoder raised."""
    kinds = {kind.reason: kind for kind in CutstreamError.__subclasses__()}
    return kinds[answer["reason"]](answer["message"], **answer["metadata"])
