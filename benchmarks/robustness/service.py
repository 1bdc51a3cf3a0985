"""A real `cutstream-server serve` with the tiny network, and what can be seen of it from outside through /proc."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cutstream
from cutstream_server.memory import IDLE_SECONDS

ROOT: Final = Path(__file__).parents[2]
MODELS: Final = ROOT / "tests" / "model_repository"
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 90.0
TRIM_SECONDS: Final = 60.0
MIB: Final = 1 << 20
# Written to clear_refs it makes the peak start again from now (Linux, man 5 proc).
RESET_PEAK: Final = "5"
DECODER: Final = "cutstream_server.decoding.process"
# The service looks twice in ten seconds whether it is idle.
SETTLE_SECONDS: Final = 2 * IDLE_SECONDS + 3.0
SHARED_MEMORY: Final = Path("/dev/shm")
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Service:
    """A running server.

    Attributes:
        folder: where it runs and writes its log.
        port: of the gRPC service, the same after a restart.
        environment: settings beside the defaults.
        settle_seconds: how long it takes until it has given back the memory that it does not need; 0 when nobody looks.
    """

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    settle_seconds: float = SETTLE_SECONDS
    process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What all its servers wrote."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The server's own process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start a server and wait until it takes images."""
        command = [str(Path(sys.executable).with_name("cutstream-server")), "serve", "--listen", self.target]
        settings = {"CUTSTREAM_MODEL_REPOSITORY": str(MODELS), "CUTSTREAM_MODEL": "tiny", **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env={**os.environ, **settings}, stderr=log)
        with cutstream.Client(self.target) as client:
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    break
                with contextlib.suppress(cutstream.CutoutError):
                    return client.wait_ready(timeout_seconds=1)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        """Drain it; an end other than a good one is an error."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS)
        if status != 0:
            raise RuntimeError(f"the server ended with {status}:\n{self.log.read_text()[-4000:]}")

    def processes(self) -> list[int]:
        """All its processes: the server, its decoders and their parent, Triton and its backends, the watchdog."""
        return [self.pid, *descendants(self.pid)]

    def working_processes(self) -> list[int]:
        """Those that see a file: the server and its decoders."""
        return [pid for pid in self.processes() if _name(pid) in {"serve", DECODER}]

    def lasting_processes(self) -> list[tuple[int, str]]:
        """Those that live as long as the service, by number and name: all but the decoders, which come and go."""
        named = [(pid, _name(pid)) for pid in self.processes()]
        parent = min((pid for pid, name in named if name == DECODER), default=0)
        return [(pid, name) for pid, name in named if name and (name != DECODER or pid == parent)]

    def triton_processes(self, name: str = "tritonserver") -> list[int]:
        """Triton's, by the name of the program: tritonserver or triton_python_backend_stub."""
        return [pid for pid in self.processes() if _name(pid) == name]

    def shared_regions(self) -> int:
        """Count the pieces of shared memory that its processes have mapped, by name or without one, or left behind."""
        (triton,) = self.triton_processes()
        arguments = _read(Path(f"/proc/{triton}/cmdline")).split("\0")
        run = next(text.removeprefix("--id=") for text in arguments if text.startswith("--id="))
        found = {path.stat().st_ino for path in SHARED_MEMORY.glob(f"*{run}*")}
        for pid in self.processes():
            for line in _read(Path(f"/proc/{pid}/maps")).splitlines():
                _range, _access, _offset, _device, inode, *path = line.split(maxsplit=5)
                if path and path[0].startswith(f"{SHARED_MEMORY}/"):
                    found.add(int(inode))
        return len(found)

    def reset_peaks(self, processes: Sequence[int]) -> None:
        """Have the peaks of memory begin again."""
        for pid in processes:
            Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)

    def resident_mib(self, processes: Sequence[int]) -> float:
        """Memory in use, pages that are shared counted for each."""
        return sum(_status_mib(pid, "VmRSS") for pid in processes)

    def all_triton_processes(self) -> list[int]:
        """Triton's and those of its backends."""
        return self.triton_processes() + self.triton_processes("triton_python_backend_stub")

    def settle(self) -> None:
        """Wait until it has given back what it does not need, and have Triton, which else never does, do the same."""
        if self.settle_seconds:
            time.sleep(self.settle_seconds)
            trim(self.all_triton_processes())

    def settled_mib(self) -> float:
        """Memory of its own of all its processes with nothing to do."""
        self.settle()
        return own_mib(self.processes())

    def peak_mib(self, processes: Sequence[int]) -> float:
        """The most memory since `reset_peaks`, of each process at its own time."""
        return sum(_status_mib(pid, "VmHWM") for pid in processes)


@contextlib.contextmanager
def running_service(folder: Path, **environment: str) -> Iterator[Service]:
    """Start a server with settings from `environment`, and drain it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        service = Service(folder, probe.getsockname()[1], environment)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def descendants(pid: int) -> list[int]:
    """Find all processes that descend from one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        born = children.get(queue.pop(), [])
        found += born
        queue += born
    return sorted(found)


def pss_mib(processes: Sequence[int]) -> float:
    """Add up the proportional set sizes: memory in use, what several share counted once."""
    return _shares_mib(processes, {"Pss"})


def own_mib(processes: Sequence[int]) -> float:
    """Add up the same without pages of files, of which a share counts that changes with who else runs the programs."""
    return _shares_mib(processes, {"Pss_Anon", "Pss_Shmem"})


def _shares_mib(processes: Sequence[int], kinds: set[str]) -> float:
    total = 0
    for pid in processes:
        for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            kind, _, size = line.partition(":")
            if kind in kinds:
                total += int(size.split()[0])
    return total * 1024 / MIB


def trim(processes: Sequence[int]) -> None:
    """Have the C library of other programs give back what was freed, by gdb where there is one."""
    gdb = shutil.which("gdb")
    if gdb is None:
        return
    # With the symbols of all its libraries a program would stand still for seconds, and Triton takes a backend that
    # stands still for one second for dead.
    quick = ["-nx", "-batch", "-iex", "set auto-solib-add off"]
    for pid in processes:
        command = [gdb, *quick, "-p", str(pid), "-ex", "sharedlibrary libc.so", "-ex", "call (int) malloc_trim(0)"]
        subprocess.run(command, capture_output=True, check=False, timeout=TRIM_SECONDS)


def cpu_seconds(processes: Sequence[int]) -> float:
    """Add up the processor time that processes, and those of their children that have ended, have taken so far."""
    total = 0
    for pid in processes:
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        if fields:
            total += sum(int(number) for number in fields[11:15])
    return total / TICKS


def open_files(pid: int) -> int:
    """Count a process's open files."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Count a process's threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _name(pid: int) -> str:
    """Tell a process by its program: a name of an executable, of a Python module, or of our own command."""
    command = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
    if "serve" in command:
        return "serve"
    if "-m" in command:
        return command[command.index("-m") + 1]
    return Path(command[0]).name


def _status_mib(pid: int, field_name: str) -> float:
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith(f"{field_name}:"):
            return int(line.split()[1]) * 1024 / MIB
    return 0.0


def _read(path: Path) -> str:
    """Read a file of /proc; empty when the process has gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
