import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cutstream_server.segmentation.embedded.process import start_triton
from cutstream_server.segmentation.embedded.runs import Run, open_run, runs_root
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.embedded.watchdog import Watchdog

OWNER = """
import asyncio, sys
from pathlib import Path
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import Launch
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton

async def main():
    server = EmbeddedTriton(Launch(open_environment(), (Path(sys.argv[1]),), ("tiny",)))
    await server.start()
    print(server.process.run.name, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def owner(repository):
    """A process that runs a Triton, and that Triton's run."""
    command = [sys.executable, "-c", OWNER, str(repository)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    yield process, Run(runs_root() / name)
    process.kill()
    process.wait()
    process.stdout.close()


def watchdogs_of(run):
    found = subprocess.run(["pgrep", "-f", f"watchdog {run.folder}"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_nothing_is_left_when_the_owner_is_killed(owner, remains, until):
    process, run = owner
    assert len(run.processes()) == 2
    process.kill()
    until(lambda: remains(run) == [])
    until(lambda: watchdogs_of(run) == [])


def test_nothing_is_left_when_the_owner_is_killed_and_a_backend_is_held_up(owner, remains, until):
    process, run = owner
    os.kill(run.processes()[1], signal.SIGSTOP)
    process.kill()
    until(lambda: remains(run) == [])


async def test_the_next_start_removes_what_a_dead_run_left(owner, remains, until, launch, triton, foreign_region):
    process, run = owner
    for watchdog in watchdogs_of(run):
        os.kill(watchdog, signal.SIGKILL)
    process.kill()
    process.wait()
    assert remains(run) != []
    living = triton.run.processes()
    server = EmbeddedTriton(launch, stop_seconds=0)
    await server.start()
    assert remains(run) == []
    assert foreign_region.exists()
    assert triton.run.processes() == living
    assert remains(triton.run) != []
    await server.stop()


def test_signals_meant_for_all_do_not_end_it_before_its_owner(own_root, remains, until):
    run = open_run()
    watchdog = Watchdog(run)
    until(lambda: watchdogs_of(run))
    until(lambda: _ignores(watchdogs_of(run)[0], signal.SIGTERM))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(watchdogs_of(run)[0], number)
    assert watchdogs_of(run)
    run.lock.close()
    watchdog.dismiss()
    assert remains(run) == []


def _ignores(process, number):
    """Whether the kernel's mask of ignored signals has one."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = next(line for line in lines if line.startswith("SigIgn")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


async def test_it_goes_with_its_run(launch, until):
    process = await start_triton(launch)
    assert len(watchdogs_of(process.run)) == 1
    await process.stop(grace=0)
    assert watchdogs_of(process.run) == []


async def test_a_start_that_is_given_up_leaves_nothing(own_root, launch, remains):
    start = asyncio.create_task(start_triton(launch))
    async with asyncio.timeout(20):
        while not (runs := [Run(lock.parent) for lock in own_root.glob("*/lock")]) or not runs[0].processes():
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert remains(runs[0]) == []
    assert watchdogs_of(runs[0]) == []
