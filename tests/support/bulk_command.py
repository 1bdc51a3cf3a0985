"""Runs `cutstream bulk` as a process and reads what it leaves."""

import contextlib
import json
import subprocess
import time

from running import BIN

OPTIONS = ("--set", "output_width_px=96", "--set", "profile=fast", "--window", "8")
PATIENCE_SECONDS = 60


def start_bulk(server, *arguments, folder, prefix=()):
    """Starts the command behind `prefix`, such as another program that runs it; what it says goes to `bulk.log`."""
    with (folder / "bulk.log").open("ab") as log:
        return subprocess.Popen(
            [*prefix, BIN / "cutstream", "bulk", *map(str, arguments), *OPTIONS, *to(server)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def to(server):
    """The flag that names a server, if there is one."""
    return () if server is None else ("--target", server.target)


def manifest(out):
    """The lines that a run left, all of which must be whole."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().splitlines()]


def line_count(out):
    """How many lines there are so far; the last may just be written."""
    with contextlib.suppress(FileNotFoundError):
        return (out / "manifest.jsonl").read_bytes().count(b"\n")
    return 0


def wait_for_lines(out, count, process, seconds=PATIENCE_SECONDS):
    """Waits until the manifest has that many lines, which a running process writes."""
    end = time.monotonic() + seconds
    while line_count(out) < count:
        assert process.poll() is None, "the run ended before it was to be disturbed"
        assert time.monotonic() < end, f"{line_count(out)} of {count} lines"
        time.sleep(0.01)
