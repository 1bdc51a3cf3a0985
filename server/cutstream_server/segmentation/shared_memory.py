"""Memory shared with a Triton on this machine, through which images and masks go without the wire.

A region is made, registered with Triton, and its name taken away from the machine at once: what it holds lives as long
as somebody has it mapped, so nothing of it outlives a crash of this service and its Triton. A Triton that somebody else
runs keeps a dead service's registrations until the next service on this machine takes them back. That tells them from a
living one's by the owner's lock, a file that the kernel unlocks however its process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.embedded.runs import SHARED_MEMORY, is_locked

logger = logging.getLogger(__name__)

PREFIX: Final = "cutstream_regions_"
"""Of all names: the owner's lock is PREFIX + owner, its regions are PREFIX + owner + _ + number."""

_MOST_REGIONS: Final = 16
"""As many as images are in work by default; what comes on top takes the wire."""

_SHARE_LEFT: Final = 0.5
"""Of the machine's shared memory, for others: a Python-based Triton backend that finds none fails its requests."""

_CALL_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 2.0
_FIRST_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Region:
    """A piece of memory that Triton has mapped too; `name` is its registration."""

    name: str
    memory: mmap.mmap

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.memory)

    def write(self, array: NDArray[np.uint8], offset: int) -> None:
        """Copies an array into it, from byte `offset` on."""
        np.copyto(np.frombuffer(self.memory, np.uint8, array.nbytes, offset).reshape(array.shape), array)

    def lend_to(self, tensor: Any, offset: int, size: int) -> None:
        """Has a tensor of a request read from, or written to, `size` bytes from `offset` on."""
        tensor.parameters["shared_memory_region"].string_param = self.name
        tensor.parameters["shared_memory_offset"].int64_param = offset
        tensor.parameters["shared_memory_byte_size"].int64_param = size


class SharedMemory:
    """The regions that one Triton has mapped. For the event loop's thread.

    Args:
        stub: of Triton's gRPC service.
        headers: what Triton asks of those who register memory.
    """

    def __init__(self, stub: Any, headers: Mapping[str, str]) -> None:
        self._stub = stub
        self._headers = tuple(headers.items())
        self._free: list[Region] = []
        self._regions = 0
        self._numbers = count()
        self._owner = secrets.token_hex(8)
        self._lock = -1
        self._letting_go: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Takes the owner's lock, and back what dead owners left, on this machine and in this Triton.

        Raises:
            OSError: this machine has no shared memory.
            grpc.aio.AioRpcError: Triton gives no access to it.
        """
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        self._lock = os.open(SHARED_MEMORY / f"{PREFIX}{self._owner}", flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in SHARED_MEMORY.glob(f"{PREFIX}*"):
            if not _owner_lives(path.name):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
        status = await self._call("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest())
        for name in status.regions:
            if name.startswith(PREFIX) and not _owner_lives(name):
                logger.info("Triton gives back the memory %s of a service that has died", name)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._unregister(name)

    async def take(self, size: int) -> Region | None:
        """Gives a region of at least `size` bytes to one caller, who gives it back; None where there is no room."""
        for region in self._free:
            if region.size >= size:
                self._free.remove(region)
                return region
        if self._regions == _MOST_REGIONS:
            # All are in use, or too small: one of those makes room for the next call.
            if self._free:
                self.abandon(self._free.pop())
            return None
        try:
            return await self._make(size)
        except (OSError, grpc.aio.AioRpcError) as error:
            logger.debug("no shared memory for an image: %s", error)
            return None

    def give_back(self, region: Region) -> None:
        """Takes a region whose request Triton has answered; it is used again."""
        if self._lock >= 0:
            self._free.append(region)
        else:
            self.abandon(region)

    def abandon(self, region: Region) -> None:
        """Takes a region that Triton may go on using, as after a time-out or a cancellation.

        It is never used again, and counts until Triton has let go of it.
        """
        self._let_go(region.name)

    async def close(self) -> None:
        """Has Triton let go of all regions, as far as it still answers and does not use them."""
        for region in self._free:
            self.abandon(region)
        self._free.clear()
        if self._letting_go:
            _, late = await asyncio.wait(self._letting_go, timeout=_CALL_SECONDS)
            for task in late:
                task.cancel()
        if self._lock >= 0:
            with contextlib.suppress(FileNotFoundError):
                (SHARED_MEMORY / f"{PREFIX}{self._owner}").unlink()
            os.close(self._lock)
            self._lock = -1

    async def _make(self, size: int) -> Region:
        name = f"{PREFIX}{self._owner}_{next(self._numbers)}"
        path = SHARED_MEMORY / name
        memory = _allocate(path, size)
        self._regions += 1
        try:
            request = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=size)
            await self._call("SystemSharedMemoryRegister", request)
        except BaseException:
            self._let_go(name)
            raise
        finally:
            path.unlink(missing_ok=True)
        return Region(name, memory)

    def _let_go(self, name: str) -> None:
        task = asyncio.create_task(self._unregister_when_free(name))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _unregister_when_free(self, name: str) -> None:
        """Triton refuses while a request uses the region, and takes a name that it does not know."""
        pauses = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while True:
            try:
                await self._unregister(name)
            except grpc.aio.AioRpcError as error:
                logger.debug("Triton keeps %s: %s", name, error.details())
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    break  # It has gone, and with it what it had mapped.
                await asyncio.sleep(pauses.next_delay())
            else:
                break
        self._regions -= 1

    async def _unregister(self, name: str) -> None:
        await self._call("SystemSharedMemoryUnregister", service_pb2.SystemSharedMemoryUnregisterRequest(name=name))

    async def _call(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, timeout=_CALL_SECONDS, metadata=self._headers)


def _allocate(path: Path, size: int) -> mmap.mmap:
    """Makes and maps a file of shared memory whose pages exist: a missing one would end whoever touches it.

    Raises:
        OSError: there is too little.
    """
    space = os.statvfs(SHARED_MEMORY)
    if space.f_bavail * space.f_frsize - size < _SHARE_LEFT * space.f_blocks * space.f_frsize:
        raise OSError(f"{SHARED_MEMORY} has too little room")
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return mmap.mmap(file, size)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(file)


def _owner_lives(name: str) -> bool:
    owner = name.removeprefix(PREFIX).partition("_")[0]
    return is_locked(SHARED_MEMORY / f"{PREFIX}{owner}")
