"""Runs the real `cutstream-server serve` with its embedded Triton."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

import cutstream
from cutstream.v1 import cutstream_pb2_grpc

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 180
STOP_SECONDS = 60
MODELS = f"{ROOT / 'model_repository'},{ROOT / 'tests' / 'model_repository'}"
TINY_ONLY = str(ROOT / "tests" / "model_repository")


@dataclass
class RunningServer:
    """A `cutstream-server serve` of ours."""

    target: str
    process: subprocess.Popen
    log: Path
    connect: dict = field(default_factory=dict)
    """How its clients have to connect: tls, token."""

    def client(self, **options):
        return cutstream.Client(self.target, **{**self.connect, **options})

    @contextlib.contextmanager
    def stub(self):
        with grpc.insecure_channel(self.target, [("grpc.max_receive_message_length", -1)]) as channel:
            yield cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel)

    def triton_processes(self, name):
        """Process ids of the server's Triton: "tritonserver", or "triton_python_backend_stub"."""
        found = []
        for process in descendants(self.process.pid):
            command = read(f"/proc/{process}/cmdline").split("\0")[0]
            if Path(command).name == name:
                found.append(process)
        return found


def read(path):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def descendants(pid):
    """All processes that descend from one, by their parents."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = read(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_server(folder, models=TINY_ONLY, *, host="127.0.0.1", connect=None, **environment):
    """Starts a server, waits until it is healthy, and stops it by SIGTERM."""
    port = free_port()
    log_path = folder / "server.log"
    settings = {"CUTSTREAM_MODEL_REPOSITORY": models, "CUTSTREAM_MODEL": "tiny", **environment}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [BIN / "cutstream-server", "serve", "--listen", f"{host}:{port}"],
            cwd=folder,
            env={**os.environ, **settings},
            stderr=log,
        )
    server = RunningServer(f"127.0.0.1:{port}", process, log_path, connect or {})
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def wait_until_ready(server, seconds=START_SECONDS):
    deadline = time.monotonic() + seconds
    with server.client() as client:
        while time.monotonic() < deadline:
            assert server.process.poll() is None, server.log.read_text()
            with contextlib.suppress(cutstream.CutoutError):
                client.wait_ready(timeout_seconds=1)
                return
    raise AssertionError(f"not ready within {seconds} s:\n{server.log.read_text()}")
