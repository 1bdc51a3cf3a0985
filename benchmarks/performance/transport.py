"""The two ways to Triton: `python -m benchmarks.performance.transport`, part of `make bench`.

Tensors on the wire and tensors in shared memory, in turn, through the service's own `TritonConnection` to one embedded
Triton: wall time of a 1024 x 1024 image, CPU time of client and Triton, at several calls at once. With the tiny network
all of that is the transport's; with IS-Net the share of it is shown. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from benchmarks.bulk.transfer import cpu_seconds
from benchmarks.performance.machine import this_machine
from rich.console import Console
from rich.table import Table

from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import Launch, start_triton
from cutstream_server.segmentation.segmenter import NETWORK_SIDE_PX

OUT: Final = Path("out/bench/transport.json")
REPOSITORIES: Final = (Path("model_repository"), Path("tests/model_repository"))
SECONDS: Final = 120.0
ROUNDS: Final = 8
TINY_IMAGES, ISNET_IMAGES = 48, 2
AT_ONCE: Final = (1, 4, 16)


@dataclass
class Cell:
    """One network by one way, at some calls at once; times in ms an image, of each round."""

    model: str
    transport: str
    at_once: int
    wall: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    triton_cpu: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each cell; default {ROUNDS}")
    parser.add_argument("--models", nargs="+", default=["tiny", "isnet"], help="default tiny isnet")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    console, machine = Console(), this_machine()
    machine.show(console)
    cells = asyncio.run(measure(arguments.models, arguments.rounds))
    show(console, cells)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "cells": [asdict(cell) for cell in cells]}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


async def measure(models: Sequence[str], rounds: int) -> list[Cell]:
    """Run all cells in turn; of each the first round warms up."""
    triton = await start_triton(Launch(open_environment(), REPOSITORIES, tuple(models)))
    connections = [TritonConnection(triton.url) for _ in range(2)]
    try:
        await connections[1].share_memory(models[0], headers=triton.control_headers, timeout=SECONDS)
        cells = [
            (connection, Cell(model, connection.transport, at_once))
            for model in models
            for at_once in (AT_ONCE if model == "tiny" else AT_ONCE[:1])
            for connection in connections
        ]
        processes = triton.run.processes()
        for number in range(rounds + 1):
            for connection, cell in cells if number % 2 else cells[::-1]:
                await _run(connection, cell, processes)
        for _, cell in cells:
            del cell.wall[0], cell.client_cpu[0], cell.triton_cpu[0]
    finally:
        for connection in connections:
            await connection.close()
        await triton.stop()
    return [cell for _, cell in cells]


async def _run(connection: TritonConnection, cell: Cell, triton: Sequence[int]) -> None:
    side = NETWORK_SIDE_PX
    image = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), np.uint8)
    images = TINY_IMAGES if cell.model == "tiny" else ISNET_IMAGES

    async def some() -> None:
        for _ in range(images // cell.at_once):
            await connection.infer(cell.model, image, timeout=SECONDS)

    theirs, ours, began = sum(map(cpu_seconds, triton)), time.process_time(), time.perf_counter()
    await asyncio.gather(*(some() for _ in range(cell.at_once)))
    cell.wall.append(1000 * (time.perf_counter() - began) / images)
    cell.client_cpu.append(1000 * (time.process_time() - ours) / images)
    cell.triton_cpu.append(1000 * (sum(map(cpu_seconds, triton)) - theirs) / images)


def show(console: Console, cells: Sequence[Cell]) -> None:
    """Print medians with minima."""
    table = Table(title="One 1024 x 1024 image to Triton and its mask back, ms: median (minimum)")
    for heading in ("network", "way", "at once", "wall", "CPU of the client", "CPU of Triton"):
        table.add_column(heading, justify="left" if heading in {"network", "way"} else "right")
    for cell in cells:
        times = (f"{median(v):.1f} ({min(v):.1f})" for v in (cell.wall, cell.client_cpu, cell.triton_cpu))
        table.add_row(cell.model, cell.transport, str(cell.at_once), *times)
    console.print(table)


if __name__ == "__main__":
    main()
