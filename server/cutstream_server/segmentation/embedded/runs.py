"""What one run of Triton leaves on the machine, and how it is taken away again, by whoever survives it.

A run is a folder under `runs_root()` with a random name. The name is also in the environment of every process of the
run and in front of its shared memory, so that a dead run's remains are told from everybody else's. While its server
lives, that holds a lock in the folder; the kernel gives the lock back however the server ends.

Only the standard library: the watchdog lives as long as the service and should stay small.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

RUN_VARIABLE = "CUTSTREAM_TRITON_RUN"
"""Set for tritonserver and so for its backend processes: its value is the run's name."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory

_SCRATCH_PARENT = Path("/tmp")  # noqa: S108 - fixed in Triton's Python backend, whatever TMPDIR says
_SCRATCH_PATTERN = "python_env_*"
_LOGS_KEPT = 10
_KILL_SECONDS = 10.0
_KILL_PAUSE_SECONDS = 0.02


class RunError(Exception):
    """A run cannot be made or cannot be removed."""


@dataclass(frozen=True)
class Run:
    """One run and what it may leave behind.

    Attributes:
        folder: everything of the run but its log; its name is the run's.
        lock: held open by the run's own server; None in anybody else's view of the run.
    """

    folder: Path
    lock: TextIO | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Unique on this machine."""
        return self.folder.name

    @property
    def region_prefix(self) -> str:
        """What the names of the run's shared memory regions begin with."""
        return f"cutstream_triton_{self.name}_"

    @property
    def log(self) -> Path:
        """Triton's output. It outlives the run: it is what an error points to."""
        return self.folder.with_suffix(".log")

    @property
    def _scratch_list(self) -> Path:
        return self.folder / "scratch.json"

    def note_scratch(self, before: set[Path]) -> None:
        """Notes the folders that appeared in /tmp since `before`: nothing on them tells who made them."""
        self._scratch_list.write_text(json.dumps([str(path) for path in scratch_folders() - before]))

    def processes(self) -> list[int]:
        """Finds the run's living processes, wherever they hang in the tree of processes."""
        marker = f"{RUN_VARIABLE}={self.name}".encode()
        processes = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [process for process in processes if marker in _environment(process)]

    def remove(self) -> None:
        """Kills what is left of the run and takes its shared memory and its folder away; a second call does nothing.

        Raises:
            RunError: a process of the run does not die.
        """
        self._kill()
        for region in SHARED_MEMORY.glob(f"{self.region_prefix}*"):
            region.unlink(missing_ok=True)
        self._remove_scratch()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.lock:
            self.lock.close()

    def _kill(self) -> None:
        """Kills until none is left: a backend process may be born while its parent dies."""
        deadline = time.monotonic() + _KILL_SECONDS
        while processes := self.processes():
            if time.monotonic() > deadline:
                raise RunError(f"processes {processes} of the Triton run {self.name} do not die")
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(_KILL_PAUSE_SECONDS)

    def _remove_scratch(self) -> None:
        """Removes the noted folders that are empty, as ours always are; one that is not is somebody else's."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            for path in json.loads(self._scratch_list.read_text()):
                with contextlib.suppress(OSError):
                    Path(path).rmdir()


def scratch_folders() -> set[Path]:
    """Lists the folders that Python backends, of whatever Triton, have in /tmp."""
    return set(_SCRATCH_PARENT.glob(_SCRATCH_PATTERN))


def runs_root() -> Path:
    """Gives this user's folder of runs and makes it when it is missing.

    Raises:
        RunError: somebody else made it; in a temporary folder anybody can.
    """
    folder = Path(tempfile.gettempdir(), f"cutstream-triton-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RunError(f"{folder} is not a folder that only this user can enter; remove it")
    return folder


def open_run() -> Run:
    """Makes a run and takes its lock.

    Raises:
        RunError: see `runs_root`.
    """
    with _root_lock() as root:
        folder = root / secrets.token_hex(6)
        folder.mkdir()
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return Run(folder, lock)


def remove_dead_runs() -> list[str]:
    """Removes every run whose server is gone, and the oldest logs; gives the names of the runs.

    Raises:
        RunError: see `Run.remove`.
    """
    with _root_lock() as root:
        folders = [entry for entry in root.iterdir() if entry.is_dir()]
        dead = [Run(folder) for folder in folders if not is_locked(folder / "lock")]
        for run in dead:
            run.remove()
        logs = sorted(root.glob("*.log"), key=lambda log: log.stat().st_mtime)
        for log in logs[:-_LOGS_KEPT]:
            if not log.with_suffix("").exists():
                log.unlink()
    return [run.name for run in dead]


@contextlib.contextmanager
def _root_lock() -> Iterator[Path]:
    """Keeps starts apart: a folder that is being made, its lock not yet taken, would look like a dead run."""
    root = runs_root()
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root


def is_locked(file: Path) -> bool:
    """Tells whether a process holds the lock of a file; of another user's, which cannot be asked, it is assumed."""
    try:
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except FileNotFoundError:
        return False
    return False


def _environment(process: int) -> list[bytes]:
    """The variables that a process was started with; none for a zombie, one that has gone, or another user's."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
