"""The program that decodes: `python -m cutstream_server.decoding.process`, with a socket to the service as its input.

It has the libraries loaded and makes a decoder, a fork of itself, for each pair of a socket and a file that comes over
its input, and ends one when it is told to. So a decoder is there in 5 ms instead of 500, and shares nearly all of its
40 MB. A decoder takes one image at a time under bounds of memory and time, which end it and nobody else. All end when
the service's ends of the sockets close, however the service went.
"""

from __future__ import annotations

import gc
import json
import logging
import mmap
import os
import resource
import signal
import socket
import sys
import warnings
from typing import Any, Final

import cv2
import numpy as np
from PIL import AvifImagePlugin

from cutstream_server.decoding.memory import KEPT_BYTES, SharedMemory, aligned
from cutstream_server.errors import CutstreamError
from cutstream_server.imaging.decode import SourceImage, decode_image
from cutstream_server.memory import trim_own_memory

# An error's text and metadata are far below it.
MESSAGE_BYTES: Final = 1 << 16
PID_BYTES: Final = 16


def main() -> None:
    """Fork and end decoders until the service has gone."""
    # The service has as many decoders as cores.
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    logging.disable()
    # A crash is told by the log; a picture of the memory may be gigabytes, and holds a customer's image.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Else the first collection in each fork would copy the pages of everything that is loaded.
    gc.freeze()
    service = socket.socket(fileno=os.dup(0))
    # The C libraries tell standard error of every damaged file, as Pillow does its log, and strangers could fill the
    # service's log with that. What Python itself says there is a fault of ours.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    children: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(service, PID_BYTES, 2)
        if not message:
            return
        if not files:
            service.send(b"%d" % _end(int(message), children))
            continue
        child = os.fork()
        if child == 0:
            service.close()
            Decoder(socket.socket(fileno=files[0]), files[1]).serve()
            os._exit(0)
        for file in files:
            os.close(file)
        children.add(child)
        service.send(b"%d" % child)


def _end(child: int, children: set[int]) -> int:
    """End a decoder and give its exit status, negative for a signal; that of one that has ended already is its own."""
    if child not in children:  # An earlier parent's, which has ended.
        return -signal.SIGKILL
    children.remove(child)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Decoder:
    """One decoder.

    Args:
        service: where requests come from and answers go to.
        source: the file in memory that holds the image of each request.
    """

    def __init__(self, service: socket.socket, source: int) -> None:
        self._service = service
        self._source = source
        self._memories: dict[int, SharedMemory] = {}

    def serve(self) -> None:
        """Answer requests until the service has gone."""
        while True:
            message, files, _, _ = socket.recv_fds(self._service, MESSAGE_BYTES, 1)
            if not message:
                return
            request = json.loads(message)
            for number in request["forget"]:
                self._forget(number)
            if files:
                self._memories[request["memory"]] = SharedMemory(files[0])
            if "bytes" in request:
                answer = self._bounded(request)
            else:
                trim_own_memory()
                answer = {}
            self._service.send(json.dumps(answer).encode())

    def _bounded(self, request: dict[str, Any]) -> dict[str, Any]:
        """Decode one image; whoever needs more memory fails, whoever needs more time is ended by a signal."""
        unlimited = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + request["allowed_bytes"], unlimited))
        # Of processor time first: an innocent image must not die of what else the machine has to do.
        signal.setitimer(signal.ITIMER_PROF, request["allowed_cpu_seconds"])
        signal.setitimer(signal.ITIMER_REAL, request["allowed_seconds"])
        try:
            return self._decode(request)
        except CutstreamError as error:
            return {"reason": error.reason, "message": error.message, "metadata": error.metadata}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
            if self._memories[request["memory"]].file_size > KEPT_BYTES:  # The service will not keep it either.
                self._forget(request["memory"])

    def _forget(self, number: int) -> None:
        memory = self._memories.pop(number, None)
        if memory is not None:
            memory.close()

    def _decode(self, request: dict[str, Any]) -> dict[str, Any]:
        memory = self._memories[request["memory"]]
        data = os.pread(self._source, request["bytes"], 0)

        def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
            return memory.view(int(np.prod(shape)) * dtype.itemsize).view(dtype).reshape(shape)

        image = decode_image(data, max_pixels=request["max_pixels"], allocate=allocate)
        _hand_over(image, memory)
        return {
            "width": image.width,
            "height": image.height,
            "deep": image.rgb.dtype == np.uint16,
            "alpha": image.alpha is not None,
            "format": image.format,
            "orientation": image.exif_orientation,
        }


def _hand_over(image: SourceImage, memory: SharedMemory) -> None:
    """Put colour and alpha into the memory, one behind the other; colour that was decoded there stays where it is."""
    colour_bytes = image.rgb.nbytes
    alpha_bytes = image.alpha.nbytes if image.alpha is not None else 0
    view = memory.view(aligned(colour_bytes) + alpha_bytes)
    colour = view[:colour_bytes].view(image.rgb.dtype).reshape(image.rgb.shape)
    if not np.shares_memory(colour, image.rgb):
        np.copyto(colour, image.rgb)
    if image.alpha is not None:
        np.copyto(view[aligned(colour_bytes) :].view(np.float32).reshape(image.alpha.shape), image.alpha)


def _address_space() -> int:
    """Bytes of address space in use."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - on the way of every image
        return int(file.read().split(b" ", 1)[0]) * mmap.PAGESIZE


if __name__ == "__main__":
    main()
