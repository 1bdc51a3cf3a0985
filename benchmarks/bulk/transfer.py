"""What `cutstream bulk` itself costs: `python -m benchmarks.bulk.transfer [--images N] [--side PIXELS]`.

Runs the command against a server with the tiny network (tests/model_repository) and prints

- the client's resident memory after the first 200 images and at most from then on, which must not be 10 % more;
- CPU seconds for each image of the client's process, of the server's own one (Triton left out), and of the server's
  stages alone, measured in the same run without gRPC; the client must not take more than 0.15 of these.

Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np
from benchmarks.performance.material import MeasuredWorkers, pipeline_without_network, resolve
from rich.console import Console
from rich.table import Table

import cutstream
from cutstream_server.report import ImageReport
from cutstream_server.workers import limit_library_threads

OUT: Final = Path("out/bench/bulk.json")
BIN: Final = Path(sys.executable).parent
TINY: Final = Path(__file__).parents[2] / "tests" / "model_repository"
FIRST_IMAGES: Final = 200
FIRST_PHOTO: Final = "0.jpg"
ALLOWED_GROWTH: Final = 0.10
ALLOWED_SHARE: Final = 0.15
STAGE_RUNS: Final = 30
STOP_SECONDS: Final = 60
POLL_SECONDS: Final = 0.02
TICKS: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What one run cost: memory in MiB, times in seconds for each image."""

    images: int
    side_px: int
    first_mib: float
    most_mib: float
    client_cpu: float
    server_cpu: float
    stage_cpu: float
    wall: float

    @property
    def growth(self) -> float:
        """Of the client's memory, as a share of that after the first images."""
        return self.most_mib / self.first_mib - 1

    @property
    def share(self) -> float:
        """Of the client's CPU time in that of the server's stages."""
        return self.client_cpu / self.stage_cpu


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=1000, help="of the square images, in pixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as (target, server):
        photos = make_photos(Path(folder) / "photos", arguments.images, arguments.side)
        cost = measure(photos, Path(folder) / "out", target, server, arguments.images, arguments.side)
    show(cost)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(asdict(cost), indent=2) + "\n")


def make_photos(folder: Path, count: int, side: int) -> Path:
    """A grey disc on a textured ground, as JPEG, under many names: hard links, which take no room."""
    folder.mkdir()
    y, x = np.mgrid[:side, :side] / side - 0.5
    red = np.where(np.hypot(x, y) < 0.3, 255.0, 0.0)
    texture = np.random.default_rng(0).normal(0, 12, (side // 4 + 1, side // 4 + 1))
    rough = cv2.resize(texture, (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.dstack([128 + rough, 100 + rough, red]).clip(0, 255).astype(np.uint8)
    first = folder / FIRST_PHOTO
    cv2.imwrite(str(first), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    for number in range(1, count):
        (folder / f"{number}.jpg").hardlink_to(first)
    return folder


def measure(photos: Path, out: Path, target: str, server: int, images: int, side: int) -> Cost:
    """Runs the command once over the photos."""
    manifest = out / "manifest.jsonl"
    server_before, started = cpu_seconds(server), time.monotonic()
    client = subprocess.Popen(
        [BIN / "cutstream", "bulk", photos, out, "--window", "8", "--target", target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first = most = client_cpu = 0.0
    while client.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            memory, client_cpu = resident_mib(client.pid), cpu_seconds(client.pid)
            if not first and manifest.read_bytes().count(b"\n") >= FIRST_IMAGES:
                first = memory
            most = max(most, memory) if first else 0.0
        time.sleep(POLL_SECONDS if not first else 5 * POLL_SECONDS)
    if client.returncode:
        raise SystemExit(f"the command ended with {client.returncode}")
    wall = time.monotonic() - started
    server_cpu = cpu_seconds(server) - server_before
    stage_cpu = asyncio.run(measure_stages((photos / FIRST_PHOTO).read_bytes()))
    return Cost(images, side, first, most, client_cpu / images, server_cpu / images, stage_cpu, wall / images)


async def measure_stages(jpeg: bytes, options: Mapping[str, object] = MappingProxyType({})) -> float:
    """CPU seconds of all stages of one such image, with a drawn mask in the network's place."""
    limit_library_threads()
    workers = MeasuredWorkers()
    pipeline = pipeline_without_network(workers)
    runs = []
    for _ in range(STAGE_RUNS):
        workers.cpu_seconds.clear()
        await pipeline.remove(jpeg, ImageReport(resolve(options)), time_left=1.0)
        runs.append(sum(workers.cpu_seconds.values()))
    workers.close()
    return median(runs)


def show(cost: Cost) -> None:
    """Print what was measured."""
    table = Table(title=f"{cost.images} images of {cost.side_px} x {cost.side_px} pixels, window 8, tiny network")
    for heading in ("", "measured"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(f"client's memory after {FIRST_IMAGES} images", f"{cost.first_mib:.1f} MiB")
    table.add_row("most memory of the client from then on", f"{cost.most_mib:.1f} MiB ({cost.growth:+.1%})")
    table.add_row("client's CPU for an image", f"{cost.client_cpu * 1e3:.1f} ms")
    table.add_row("server's CPU for an image, without Triton", f"{cost.server_cpu * 1e3:.1f} ms")
    table.add_row("server's stages alone, CPU for an image", f"{cost.stage_cpu * 1e3:.1f} ms")
    table.add_row("client / server's stages", f"{cost.share:.3f}")
    table.add_row("wall time for an image", f"{cost.wall * 1e3:.1f} ms")
    console = Console()
    console.print(table)
    if cost.growth > ALLOWED_GROWTH:
        console.print(f"[red]The client's memory grew by more than {ALLOWED_GROWTH:.0%}.[/]")
    if cost.share > ALLOWED_SHARE:
        console.print(f"[red]The client takes more than {ALLOWED_SHARE} of the server's stages.[/]")


@contextlib.contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """A server with the tiny network and more settings of the environment: its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "CUTSTREAM_MODEL_REPOSITORY": str(TINY), "CUTSTREAM_MODEL": "tiny", **settings}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "cutstream-server", "serve", "--listen", target],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with cutstream.Client(target) as client:
            client.wait_ready(timeout_seconds=STOP_SECONDS)
        yield target, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM; 0 when it is over."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system (man 5 proc, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
