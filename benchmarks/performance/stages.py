"""Time of one image outside the network, by stage: `python -m benchmarks.performance.stages`, part of `make bench`.

Everything runs as in the service, through `Pipeline` and `Segmenter`, with one worker thread; only Triton is replaced
by a drawn mask. docs/performance.md says how to read the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import cv2
import numpy as np
from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import MeasuredWorkers, photo_jpeg, pipeline_without_network, resolve
from rich.console import Console
from rich.table import Table

from cutstream_server.imaging.decode import JPEG_FLAGS
from cutstream_server.pipeline import Pipeline
from cutstream_server.report import ImageReport, Stage
from cutstream_server.workers import limit_library_threads

OUT: Final = Path("out/bench/stages.json")
SOURCE_WIDTH, SOURCE_HEIGHT = 2048, 1536
RUNS: Final = 40
# The first runs fill the caches of kernels and memory.
WARM_UP_RUNS: Final = 3
# The stage "segmentation" holds nothing but the network's input here.
STAGES: Final[dict[Stage, str]] = {
    "decode": "decode",
    "segmentation": "network input",
    "refinement": "refinement",
    "framing": "framing",
    "encoding": "encoding",
}
# What the event loop and the hand-over between threads take; only CPU time shows it.
REST: Final = "rest"
TOTAL: Final = "total"


@dataclass(frozen=True)
class Case:
    """Options to measure, and how long an image may take outside the network, in ms."""

    name: str
    options: dict[str, object]
    limit_ms: float


CASES: Final = (
    Case("fast", {"profile": "fast"}, 60),
    Case("balanced: foreground colours", {"profile": "balanced"}, 110),
    Case("quality + edge refinement", {"profile": "quality", "enable_edge_refinement": True}, 150),
)


@dataclass
class Times:
    """Milliseconds of each run, by the name of the stage."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)

    def add(self, cpu: dict[str, float], wall: dict[str, float]) -> None:
        """Add one run, given in seconds."""
        for kept, run in ((self.cpu, cpu), (self.wall, wall)):
            for name, seconds in run.items():
                kept.setdefault(name, []).append(1000 * seconds)


def main() -> None:
    """Measure, print the tables and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"measured runs of each row; default {RUNS}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    limit_library_threads()
    machine = this_machine()
    jpeg = photo_jpeg(SOURCE_WIDTH, SOURCE_HEIGHT)
    # Wide enough for the columns where the output is no terminal, too.
    console = Console(width=max(Console().width, 130))
    machine.show(console)
    times, reference = asyncio.run(measure(jpeg, arguments.runs))
    show(console, times, reference, len(jpeg))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": machine.as_json(),
        "jpeg_bytes": len(jpeg),
        "runs": arguments.runs,
        "reference_ms": summary(reference),
        "cases": [
            {
                "name": case.name,
                "options": case.options,
                "limit_ms": case.limit_ms,
                "cpu_ms": {name: summary(values) for name, values in times[case.name].cpu.items()},
                "wall_ms": {name: summary(values) for name, values in times[case.name].wall.items()},
            }
            for case in CASES
        ],
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


async def measure(jpeg: bytes, runs: int) -> tuple[dict[str, Times], list[float]]:
    """Time all cases in turn, so that a change of the machine's load meets each of them.

    Returns:
        The times of each case by its name, and the CPU milliseconds of the reference.
    """
    workers = MeasuredWorkers()
    pipeline = pipeline_without_network(workers)
    times = {case.name: Times() for case in CASES}
    reference: list[float] = []
    encoded = np.frombuffer(jpeg, np.uint8)
    for run in range(runs + WARM_UP_RUNS):
        for case in CASES:
            cpu, wall = await _time_image(pipeline, workers, jpeg, case)
            if run >= WARM_UP_RUNS:
                times[case.name].add(cpu, wall)
        start = time.thread_time()
        cv2.imdecode(encoded, JPEG_FLAGS)
        if run >= WARM_UP_RUNS:
            reference.append(1000 * (time.thread_time() - start))
    workers.close()
    return times, reference


async def _time_image(
    pipeline: Pipeline, workers: MeasuredWorkers, jpeg: bytes, case: Case
) -> tuple[dict[str, float], dict[str, float]]:
    """Return CPU and wall seconds of one image by the stage's name."""
    report = ImageReport(resolve(case.options))
    workers.cpu_seconds.clear()
    started_cpu, started = time.process_time(), time.perf_counter()
    await pipeline.remove(jpeg, report, time_left=1.0)
    total_cpu, total = time.process_time() - started_cpu, time.perf_counter() - started
    cpu = {shown: workers.cpu_seconds[stage] for stage, shown in STAGES.items()}
    cpu |= {REST: total_cpu - sum(cpu.values()), TOTAL: total_cpu}
    wall = {shown: report.seconds[stage] for stage, shown in STAGES.items()}
    wall |= {REST: total - sum(wall.values()), TOTAL: total}
    return cpu, wall


def show(console: Console, times: dict[str, Times], reference: list[float], jpeg_bytes: int) -> None:
    """Print CPU and wall times: medians with minima, by stage."""
    columns = (*STAGES.values(), REST, TOTAL)
    title = f"outside the network, {SOURCE_WIDTH} x {SOURCE_HEIGHT} JPEG ({jpeg_bytes / 1000:.0f} kB) to 518 x 518"
    clocks: tuple[tuple[str, Callable[[Times], dict[str, list[float]]]], ...] = (
        ("CPU", lambda measured: measured.cpu),
        ("Wall", lambda measured: measured.wall),
    )
    for clock, of in clocks:
        table = Table(title=f"{clock} ms {title}, one thread: median (minimum)")
        for heading in ("options", *columns, "limit", "decodes"):
            table.add_column(heading, justify="left" if heading == "options" else "right")
        for case in CASES:
            measured = of(times[case.name])
            total = median(measured[TOTAL])
            color = "green" if total <= case.limit_ms else "red"
            table.add_row(
                case.name,
                *(_cell(measured[name]) for name in columns),
                f"[{color}]{case.limit_ms:g}[/]",
                f"{total / median(reference):.1f}",
            )
        console.print(table)
    console.print(f"decodes: total / CPU time of cv2.imdecode of the same JPEG, {_cell(reference)} ms")


def _cell(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f})"


def summary(values: list[float]) -> dict[str, float]:
    """Give what the report keeps of a list of times."""
    return {"median": round(median(values), 3), "minimum": round(min(values), 3)}


if __name__ == "__main__":
    main()
