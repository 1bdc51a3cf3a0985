"""What it costs to decode in another process: `python -m benchmarks.robustness.isolation`, part of `make fuzz`.

The same files are decoded in this process and by a `DecoderPool`, in turns, so that a change of the load meets both.
Processor time is that of both processes. Shown too: how long it takes until a decoder that was killed is replaced, and
the memory of decoders that have nothing to do.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import photo_jpeg
from benchmarks.robustness.material import encoded
from benchmarks.robustness.service import descendants, pss_mib
from PIL import Image
from rich.console import Console
from rich.table import Table

from cutstream_server.decoding.pool import DecoderPool
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.header import Header, ImageLimits, read_header
from cutstream_server.workers import limit_library_threads

OUT: Final = Path("out/robustness/isolation.json")
RUNS: Final = 30
SIZE: Final = (2048, 1536)
LIMITS: Final = ImageLimits(64_000_000, 32_768, 1000)


def files() -> dict[str, bytes]:
    """Make the same photo in several formats."""
    jpeg = photo_jpeg(*SIZE)
    photo = Image.open(io.BytesIO(jpeg))
    return {
        "JPEG": jpeg,
        "PNG": encoded(photo, "PNG", compress_level=1),
        "WebP lossless": encoded(photo, "WEBP", lossless=True, method=0, quality=0),
        "TIFF LZW": encoded(photo, "TIFF", compression="tiff_lzw"),
        "AVIF": encoded(photo, "AVIF", speed=10),
    }


def main() -> None:
    """Measure, print the tables and write the report."""
    limit_library_threads()
    console, machine = Console(width=120), this_machine()
    machine.show(console)
    pool = DecoderPool(max_pixels=LIMITS.max_pixels, seconds=60)
    table = Table(
        title=f"Decoding {SIZE[0]} x {SIZE[1]}, median and minimum of {RUNS} runs, ms of processor time (wall)"
    )
    for heading in ("format", "here", "in a decoder", "difference"):
        table.add_column(heading, justify="left" if heading == "format" else "right")
    report: dict[str, object] = {"machine": machine.as_json()}
    for name, data in files().items():
        header = read_header(data, LIMITS)
        here, there = _compare(data, header, pool)
        difference = median(cpu for cpu, _ in there) - median(cpu for cpu, _ in here)
        table.add_row(name, _shown(here), _shown(there), f"{1000 * difference:+.1f}")
        report[name] = {"here": here, "there": there}
    console.print(table)
    replaced = [_replacement_ms(pool) for _ in range(10)]
    pool.trim()
    decoders = descendants(os.getpid())
    memory = pss_mib(decoders)
    console.print(
        f"A decoder that was killed is replaced, and a small image decoded by it, in {median(replaced):.0f} ms."
    )
    console.print(f"{len(decoders) - 1} decoder(s) and their parent hold {memory:.0f} MiB when idle.")
    pool.close()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report | {"replaced_ms": replaced, "memory_mib": memory}, indent=1) + "\n")
    console.print(f"Written: {OUT}")


def _compare(data: bytes, header: Header, pool: DecoderPool) -> tuple[list[tuple[float, float]], ...]:
    here: list[tuple[float, float]] = []
    there: list[tuple[float, float]] = []
    pool.decode(data, header)
    for _ in range(RUNS):
        here.append(_timed(lambda: decode_image(data, max_pixels=LIMITS.max_pixels), []))
        there.append(_timed(lambda: pool.decode(data, header), descendants(os.getpid())))
    return here, there


def _timed(work: Callable[[], object], others: list[int]) -> tuple[float, float]:
    """Give the processor seconds of this process and of others, and the seconds on the clock."""
    before, began = _cpu_seconds(others), time.perf_counter()
    work()
    return _cpu_seconds(others) - before, time.perf_counter() - began


def _cpu_seconds(others: list[int]) -> float:
    """Add up to the microsecond: /proc/PID/stat counts hundredths of a second."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    nanoseconds = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in others)
    return own.ru_utime + own.ru_stime + nanoseconds / 1e9


def _replacement_ms(pool: DecoderPool) -> float:
    small = encoded(Image.new("RGB", (8, 8)), "PNG")
    pool.decode(small, read_header(small, LIMITS))
    os.kill(max(descendants(os.getpid())), signal.SIGKILL)
    began = time.perf_counter()
    pool.decode(small, read_header(small, LIMITS))
    return 1000 * (time.perf_counter() - began)


def _shown(times: list[tuple[float, float]]) -> str:
    cpu, wall = ([seconds[place] * 1000 for seconds in times] for place in (0, 1))
    return f"{median(cpu):.1f}, {min(cpu):.1f} ({median(wall):.1f}, {min(wall):.1f})"


if __name__ == "__main__":
    main()
