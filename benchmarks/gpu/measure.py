"""The service on an NVIDIA GPU: `python -m benchmarks.gpu.measure`. NOT part of `make bench`.

Measures images of 1024 x 1024 a second, and says what limits each:

1. the engine alone: IS-Net in torch, half precision, channels last, as a CUDA graph, by batch;
2. the same in the wheel's Triton, on the wire and in shared memory, by calls at once;
3. the service in front of that Triton by configuration alone (CUTSTREAM_TRITON), a stream of JPEGs of 2048 x 1536.

Triton runs from an environment of its own with torch: `python -m benchmarks.gpu.measure --setup` makes it. The weights
are random, which changes no time. `--device cpu` runs all of it on the CPU at 64 x 64, to check the script.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.bulk.transfer import cpu_seconds, running_server
from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import photo_jpeg
from rich.console import Console
from rich.table import Table

import cutstream
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.environment import make_environment, open_environment
from cutstream_server.segmentation.embedded.process import Launch, TritonProcess, start_triton

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = Path(".venv/triton-gpu")
TORCH: Final = "torch==2.13.0"
OUT: Final = Path("out/bench/gpu.json")
SIDES: Final = {"cuda": 1024, "cpu": 64}
BATCHES, AT_ONCE, WINDOWS = (1, 2, 4, 8), (1, 2, 4, 8, 16), (4, 8, 16)
SECONDS: Final = 5.0
TIMEOUT: Final = 300.0
# What the service does not have to fit here: object validation and quality of a random mask.
OPTIONS: Final = {"profile": "fast", "framing": "full", "object_validation": "off"}
Rows = list[dict[str, Any]]


def main() -> None:
    """Set up, or measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help=f"make {ENVIRONMENT} and end")
    parser.add_argument("--device", choices=tuple(SIDES), default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each row; default {SECONDS:g}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    if arguments.setup:
        environment = make_environment(ENVIRONMENT, say=print)
        subprocess.run([environment.python_folder / "python", "-m", "pip", "install", TORCH], check=True)
        return
    console, machine = Console(), this_machine()
    machine.show(console)
    python = open_environment(ENVIRONMENT).python_folder / "python"
    side = SIDES[arguments.device]
    command = [python, HERE / "engine.py", arguments.device, str(side), str(arguments.seconds), *map(str, BATCHES)]
    engine: Rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    show(console, "1. torch alone", engine)
    triton, service = asyncio.run(measure(side, arguments.seconds))
    show(console, "2. Triton", triton)
    show(console, "3. the service", service)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "engine": engine, "triton": triton, "service": service}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


async def measure(side: int, seconds: float) -> tuple[Rows, Rows]:
    """Run Triton, and then the service in front of it."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "isnet"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text((HERE / "config.pbtxt").read_text().replace("SIDE_PX", str(side)))
        for file in ("model.py", "network.py"):
            shutil.copy(HERE / file, model / "1")
        triton = await start_triton(Launch(open_environment(ENVIRONMENT), (Path(folder),), ("isnet",)))
        try:
            rows = [row for shared in (False, True) for row in await _triton(triton, side, seconds, shared=shared)]
            return rows, await asyncio.to_thread(_service, Path(folder), triton, seconds)
        finally:
            await triton.stop()


async def _triton(triton: TritonProcess, side: int, seconds: float, *, shared: bool) -> Rows:
    connection = TritonConnection(triton.url)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), np.uint8)
    rows: Rows = []
    try:
        if shared:
            await connection.share_memory("isnet", headers=triton.control_headers, timeout=TIMEOUT)
        for at_once in AT_ONCE:
            # Every batch that may come has its graph before the time begins.
            await asyncio.gather(*(connection.infer("isnet", image, timeout=TIMEOUT) for _ in range(4 * at_once)))
            ours, theirs, began, done = time.process_time(), _cpu(triton), time.perf_counter(), 0

            async def some(until: float) -> int:
                answered = 0
                while time.perf_counter() < until:
                    await connection.infer("isnet", image, timeout=TIMEOUT)
                    answered += 1
                return answered

            done = sum(await asyncio.gather(*(some(began + seconds) for _ in range(at_once))))
            wall = time.perf_counter() - began
            cpu = {"client cores": (time.process_time() - ours) / wall, "Triton cores": (_cpu(triton) - theirs) / wall}
            rows.append({"way": connection.transport, "at once": at_once, "images/s": done / wall, **cpu})
    finally:
        await connection.close()
    return rows


def _service(folder: Path, triton: TritonProcess, seconds: float) -> Rows:
    jpeg, rows = photo_jpeg(2048, 1536), []
    with (
        running_server(folder, CUTSTREAM_TRITON=triton.url, CUTSTREAM_MODEL="isnet") as (target, server),
        cutstream.Client(target) as client,
    ):
        for window in WINDOWS:
            before, ours, began, sent = cpu_seconds(server), time.process_time(), time.perf_counter(), 0

            def pictures(until: float) -> Any:
                nonlocal sent
                while time.perf_counter() < until:
                    yield str(sent), jpeg
                    sent += 1

            stream = client.stream(pictures(began + seconds), window=window, streams=1, **OPTIONS)
            failed = [result for result in stream if not isinstance(result, cutstream.Cutout)]
            if failed:
                raise SystemExit(f"an image failed: {failed[0]}")
            wall = time.perf_counter() - began
            cpu = {
                "client cores": (time.process_time() - ours) / wall,
                "server cores, decoders apart": (cpu_seconds(server) - before) / wall,
            }
            rows.append({"window": window, "images/s": sent / wall, **cpu, "of": os.cpu_count()})
    return rows


def _cpu(triton: TritonProcess) -> float:
    return sum(cpu_seconds(process) for process in triton.run.processes())


def show(console: Console, title: str, rows: Rows) -> None:
    """Print a table; what comes close to its limit, cores or the engine's rate, is the limit."""
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
