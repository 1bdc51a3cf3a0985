"""Memory that one image takes, network left out: `python -m benchmarks.performance.memory`, part of `make bench`.

Each row runs the service's pipeline in a process of its own, after a small image has filled the caches, and shows how
far the resident memory rises above what the process held before. Linux only: it reads /proc.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import MeasuredWorkers, photo_jpeg, pipeline_without_network, resolve
from rich.console import Console
from rich.table import Table

from cutstream_server.report import ImageReport
from cutstream_server.workers import limit_library_threads

OUT: Final = Path("out/bench/memory.json")
# The third has sides without a common divisor with the network's grid; the last is the most that the service reads.
SIZES: Final = ((2048, 1536), (4000, 3000), (4001, 3001), (8000, 8000))
SMALL: Final = (640, 480)
FULL: Final = {"framing": "full", "size_mode": "longest_at_most", "output_width_px": 4096, "output_format": "raw"}
CASES: Final[tuple[tuple[str, dict[str, object]], ...]] = (
    ("fast, 518 PNG", {"profile": "fast"}),
    ("balanced, 518 PNG", {"profile": "balanced"}),
    ("fast, full frame, raw", {"profile": "fast", **FULL}),
)
# Written to clear_refs it makes the peak start again from now (Linux, man 5 proc).
RESET_PEAK: Final = "5"
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Peak:
    """Memory of one image in MiB: above what was held before, and of that the decoded pixels alone."""

    width: int
    height: int
    case: str
    rise: float
    decoded: float


def main() -> None:
    """Measure, print the table and write the report."""
    console = Console()
    machine = this_machine()
    machine.show(console)
    table = Table(title="Memory of one image outside the network, MiB")
    for heading in ("source", "options", "peak", "of it decoded pixels"):
        table.add_column(heading, justify="left" if heading == "options" else "right")
    peaks = []
    # A fresh process each: memory that an earlier image freed would be used again, and not show.
    context = multiprocessing.get_context("spawn")
    small = photo_jpeg(*SMALL)
    for width, height in SIZES:
        large = photo_jpeg(width, height)
        for name, options in CASES:
            with context.Pool(1) as pool:
                rise = pool.apply(measure, (small, large, options))
            peaks.append(Peak(width, height, name, round(rise, 1), round(3 * width * height / MIB, 1)))
            table.add_row(f"{width} x {height}", name, f"{peaks[-1].rise:.0f}", f"{peaks[-1].decoded:.0f}")
    console.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "peaks_mib": [vars(peak) for peak in peaks]}
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {OUT}")


def measure(small: bytes, large: bytes, options: dict[str, object]) -> float:
    """Return by how many MiB the large JPEG, after the small one, raises the peak of this process, beside its bytes."""
    limit_library_threads()
    workers = MeasuredWorkers()
    pipeline = pipeline_without_network(workers)
    asyncio.run(pipeline.remove(small, ImageReport(resolve(options)), time_left=1.0))
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = _status_mib("VmRSS")
    asyncio.run(pipeline.remove(large, ImageReport(resolve(options)), time_left=1.0))
    workers.close()
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / MIB
    raise LookupError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
