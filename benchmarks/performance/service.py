"""The whole service from outside: `python -m benchmarks.performance.service`, part of `make bench`.

Starts `cutstream-server serve` with one network and measures, with PROFILE_FAST and JPEGs of 2048 x 1536 pixels:

- seconds from the start to the first answer;
- latency of unary calls, one after the other: p50, p95, p99;
- a stream's images a second at windows of 1 to 32, and the CPU time of client, server and Triton;
- memory after the start, and at the peak of a stream of 12-megapixel images with a window of 16.

With the tiny network it also compares the server's CPU time with that of its stages alone, in the same run: what is
left is the price of gRPC, of threads, and of talking to decoders and Triton. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.bulk.transfer import measure_stages
from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import masked_jpeg
from benchmarks.robustness.service import Service, cpu_seconds, pss_mib, running_service
from rich.console import Console
from rich.table import Table

import cutstream

OUT: Final = Path("out/bench")
REPOSITORIES: Final = "model_repository,tests/model_repository"
PROFILE: Final = "fast"
SIZE: Final = (2048, 1536)
LARGE: Final = (4000, 3000)
WINDOWS: Final = (1, 2, 4, 8, 16, 32)
MEMORY_WINDOW: Final = 16
# A machine that is slow or busy is measured, too.
PATIENCE: Final = {"CUTSTREAM_IMAGE_TIMEOUT_SECONDS": "300"}
SLOW_IMAGES, TINY_IMAGES = 12, 120
FIRST_ANSWER_SECONDS: Final = 120.0


def main() -> None:
    """Measure, print the tables and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, isnet or isnet_int8; default tiny")
    parser.add_argument("--images", type=int, help=f"of each window; default {TINY_IMAGES} or {SLOW_IMAGES}")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="of the stream")
    arguments = parser.parse_args()
    images = arguments.images or (TINY_IMAGES if arguments.model == "tiny" else SLOW_IMAGES)
    console, machine = Console(width=max(Console().width, 110)), this_machine()
    machine.show(console)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), arguments.model, images, arguments.windows)
    show(console, report)
    OUT.mkdir(parents=True, exist_ok=True)
    out = OUT / f"service_{arguments.model}.json"
    out.write_text(json.dumps({"machine": machine.as_json(), **report}, indent=1) + "\n")
    console.print(f"Written: {out}")


def measure(folder: Path, model: str, images: int, windows: list[int]) -> dict[str, Any]:
    """Run all measurements on one server."""
    jpeg, large = masked_jpeg(*SIZE), masked_jpeg(*LARGE)
    repositories = ",".join(str(Path(part).resolve()) for part in REPOSITORIES.split(","))
    began = time.perf_counter()
    settings = {"CUTSTREAM_MODEL_REPOSITORY": only(folder, model, repositories), "CUTSTREAM_MODEL": model, **PATIENCE}
    with running_service(folder, **settings) as service, cutstream.Client(service.target) as client:
        client.remove(jpeg, profile=PROFILE, timeout_seconds=FIRST_ANSWER_SECONDS)
        report: dict[str, Any] = {"model": model, "first_answer_seconds": time.perf_counter() - began}
        report["transport"] = client.info().triton.transport
        report["after_start_mib"] = pss_mib(service.processes())
        report["unary_seconds"] = [unary(client, jpeg) for _ in range(images)]
        stream(client, service, jpeg, max(windows), max(windows))  # starts what works beside each other
        report["streams"] = [stream(client, service, jpeg, window, images) for window in windows]
        service.reset_peaks(service.processes())
        stream(client, service, large, MEMORY_WINDOW, 2 * MEMORY_WINDOW)
        report["peak_mib"] = service.peak_mib(service.processes())
    if model == "tiny":
        report["stages_cpu_seconds"] = asyncio.run(measure_stages(jpeg, {"profile": PROFILE}))
    return report


def only(folder: Path, model: str, repositories: str) -> str:
    """Make a repository that holds this network alone, for the embedded Triton loads all that it finds."""
    found = next(path for part in repositories.split(",") if (path := Path(part, model)).exists())
    repository = folder / "models"
    repository.mkdir()
    (repository / model).symlink_to(found)
    return str(repository)


def unary(client: cutstream.Client, jpeg: bytes) -> float:
    """Time one call."""
    began = time.perf_counter()
    client.remove(jpeg, profile=PROFILE, timeout_seconds=FIRST_ANSWER_SECONDS)
    return time.perf_counter() - began


def stream(client: cutstream.Client, service: Service, jpeg: bytes, window: int, images: int) -> dict[str, float]:
    """Stream the image some times, on one stream; CPU times are seconds an image."""
    groups = {"server": service.working_processes(), "triton": triton(service), "client": [os.getpid()]}
    before = {name: cpu_seconds(pids) for name, pids in groups.items()}
    began = time.perf_counter()
    pictures = ((str(number), jpeg) for number in range(images))
    for result in client.stream(pictures, window=window, streams=1, profile=PROFILE):
        if not isinstance(result, cutstream.Cutout):
            raise SystemExit(f"an image failed: {result}")
    wall = time.perf_counter() - began
    cpu = {f"{name}_cpu": (cpu_seconds(pids) - before[name]) / images for name, pids in groups.items()}
    return {"window": window, "images_per_second": images / wall, "wall": wall / images, **cpu}


def triton(service: Service) -> list[int]:
    """Find Triton's processes."""
    return [*service.triton_processes(), *service.triton_processes("triton_python_backend_stub")]


def show(console: Console, report: dict[str, Any]) -> None:
    """Print what was measured."""
    p50, p95, p99 = (float(value) for value in np.percentile(report["unary_seconds"], (50, 95, 99)))
    console.print(
        f"{report['model']} through {report['transport']}: first answer after {report['first_answer_seconds']:.1f} s; "
        f"unary p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s ({len(report['unary_seconds'])} calls)"
    )
    console.print(
        f"memory of all processes: {report['after_start_mib']:.0f} MiB after the start, {report['peak_mib']:.0f} MiB "
        f"at the peaks with {MEMORY_WINDOW} images of 12 megapixels in flight"
    )
    table = Table(title=f"A stream of JPEGs of {SIZE[0]} x {SIZE[1]}, profile {PROFILE}")
    for heading in ("window", "images/s", "server CPU ms", "Triton CPU ms", "client CPU ms", "cores busy"):
        table.add_column(heading, justify="right")
    for row in report["streams"]:
        cpu = [row[name] for name in ("server_cpu", "triton_cpu", "client_cpu")]
        cells = (f"{1000 * value:.1f}" for value in cpu)
        table.add_row(str(row["window"]), f"{row['images_per_second']:.2f}", *cells, f"{sum(cpu) / row['wall']:.2f}")
    console.print(table)
    if stages := report.get("stages_cpu_seconds"):
        typical = float(np.median([row["server_cpu"] for row in report["streams"]]))
        share = f"{typical / stages:.2f} of that"
        console.print(
            f"the server's stages alone: {1000 * stages:.1f} ms of CPU; the server (median of windows): {share}"
        )


if __name__ == "__main__":
    main()
