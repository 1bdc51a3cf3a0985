"""Replicas of one service: real `cutstream-server serve` processes, each on a loopback address of its own."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.robustness.service import Service, cpu_seconds

HOSTS: Final = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
# Begins the line that CUTSTREAM_LOG_IMAGES writes for an image that is answered.
IMAGE_LINE: Final = "image done"
# These addresses never leave the machine, but the service knows 127.0.0.1 only.
SETTINGS: Final = {"CUTSTREAM_ALLOW_INSECURE": "true", "CUTSTREAM_LOG_IMAGES": "true"}


@dataclass
class Replica(Service):
    """One of the servers.

    Attributes:
        host: its address.
        cores: those it may run on, as `taskset` takes them; empty for all.
    """

    host: str = HOSTS[0]
    cores: str = ""

    @property
    def target(self) -> str:
        """Address for clients."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes images."""
        super().start()
        for pid in self.processes() if self.cores else ():
            subprocess.run(["taskset", "-a", "-p", "-c", self.cores, str(pid)], check=True, capture_output=True)

    def kill(self) -> None:
        """End it without a word; its watchdog ends its Triton."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def drain(self) -> None:
        """Tell it to answer what it has and to end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def images(self) -> int:
        """How many images it has answered, over all its starts."""
        return self.log.read_text().count(IMAGE_LINE)

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        return cpu_seconds(self.processes())


@contextlib.contextmanager
def running_replicas(folder: Path, count: int = len(HOSTS), **environment: str) -> Iterator[list[Replica]]:
    """Start that many on one port of different addresses; at the end drain those that run."""
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        port = probe.getsockname()[1]
    replicas = []
    with contextlib.ExitStack() as stack:
        for host in HOSTS[:count]:
            place = folder / host
            place.mkdir(parents=True)
            replica = Replica(place, port, {**SETTINGS, **environment}, host=host)
            replica.start()
            stack.callback(_stop, replica)
            replicas.append(replica)
        yield replicas


def _stop(replica: Replica) -> None:
    assert replica.process is not None
    if replica.process.poll() is None:
        replica.stop()
