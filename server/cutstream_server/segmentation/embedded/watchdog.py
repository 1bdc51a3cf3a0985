"""Outlives the service by a moment: when the service is gone, however it went, it removes the run of its Triton.

Started with the run's folder as its argument and a pipe as its standard input. Only the service holds the other end, so
the pipe ends with the service, a SIGKILL included, and not with one of its threads, as a parent-death signal would.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from cutstream_server.segmentation.embedded.runs import Run


class Watchdog:
    """The service's end: a process that watches one run, from its making on."""

    def __init__(self, run: Run) -> None:
        command = [sys.executable, "-m", __name__, str(run.folder)]
        # A session of its own, so that a Ctrl-C in the terminal does not end it before its work.
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )

    def dismiss(self) -> None:
        """Lets it look at the run a last time and waits for its end."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def watch(folder: Path) -> None:
    """Waits for the end of standard input, then removes the run."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # A service manager may tell all processes; the service comes first.
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    Run(folder).remove()


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
