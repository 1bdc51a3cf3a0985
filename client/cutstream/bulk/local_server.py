"""A `cutstream-server` with embedded Triton for one worker, which uses the cores of the worker's node.

`python -m cutstream.bulk.local_server PROGRAM ARGUMENT...` runs it: starts it again when it ends, and ends it when its
own standard input does, as that of a process whose worker was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "cutstream-server"
# So that a server that cannot start does not keep a core busy by trying.
_PAUSE_SECONDS = 2.0


class LocalServer:
    """A server that runs as long as this process.

    Raises:
        FileNotFoundError: cutstream-server is not installed here.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        beside = Path(sys.executable).with_name(PROGRAM)
        program = str(beside) if beside.exists() else shutil.which(PROGRAM)
        if program is None:
            raise FileNotFoundError(
                f"--serve-local needs {PROGRAM} on every node: pip install ./server, and `{PROGRAM} triton setup`"
            )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.target = f"127.0.0.1:{probe.getsockname()[1]}"
        # Ray tells its workers' libraries to use one thread; the server decides for itself.
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        # Its standard input ends with this process, however that ends.
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", __name__, program, "serve", "--listen", self.target],
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
        )


def _run(command: list[str]) -> None:
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def end_with_input() -> None:
        sys.stdin.buffer.read()
        over.set()
        for server in running:
            server.send_signal(signal.SIGTERM)

    threading.Thread(target=end_with_input, daemon=True).start()
    while not over.is_set():
        running[:] = [subprocess.Popen(command, stdin=subprocess.DEVNULL)]  # noqa: S603 - our own program
        running[0].wait()
        over.wait(_PAUSE_SECONDS)


if __name__ == "__main__":
    _run(sys.argv[1:])
