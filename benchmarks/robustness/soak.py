"""Thousands of images over streams that behave badly: `make soak`, `python -m benchmarks.robustness.soak`.

Streams end well, are aborted by their client or by their deadline, have images with deadlines that cannot be kept, or
read their answers slowly. Every image of a stream that is not aborted is answered exactly once, no image twice, all
with a cutout but those whose deadline cannot be kept. Between phases the service has nothing to do: then its memory and
Triton's may not grow, and no file, thread, process or region of shared memory be left over. The service trims itself;
where gdb is installed it trims Triton, which else keeps for the next burst what the last one took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from benchmarks.performance.machine import this_machine
from benchmarks.robustness.material import SEED, encoded, picture
from benchmarks.robustness.service import MIB, Service, open_files, own_mib, pss_mib, running_service, threads
from google.rpc import error_details_pb2
from PIL import Image
from rich.console import Console
from rich.table import Table

from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1.cutstream_pb2_grpc import BackgroundRemovalServiceStub

OUT: Final = Path("out/robustness/soak.json")
STREAMS: Final = 16
PHASE_IMAGES: Final = 500
# Width and height, and how many of ten images have them.
SIZES: Final = (((96, 64), 4), ((500, 400), 4), ((1200, 900), 1), ((1800, 1350), 1))
FORMATS: Final = ("JPEG", "PNG", "WEBP")
OPTIONS: Final[dict[str, Any]] = {"model": "tiny", "output_width_px": 256}
CHUNK_BYTES: Final = 256 * 1024
IMPOSSIBLE_SECONDS: Final = 0.003
SLOW_READER_SECONDS: Final = 0.3
# Of streams that are aborted by their deadline; one of all others, which even a busy machine keeps.
SHORT_SECONDS: Final = (0.05, 2.0)
STREAM_SECONDS: Final = 600
# Of all streams, those that their client aborts, those with a short deadline and those that are read slowly.
ABORTED, SHORT, SLOW = 0.10, 0.05, 0.10
MOST_GROWTH: Final = 0.10
MOST_BYTES_AN_IMAGE: Final = 2000
LAST_IMAGES: Final = 5000
# Threads of a pool and connections come and go; a leak would be one for each stream or image.
SPARE_FILES: Final = 24
SPARE_THREADS: Final = 8
# As many as the service keeps for images on their way to Triton.
SPARE_REGIONS: Final = 16


@dataclass(frozen=True)
class Sample:
    """What the idle service holds: MiB (PSS) of all, own MiB of its parts, open files, threads, regions, processes."""

    images: int
    pss_mib: float
    server_mib: float
    triton_mib: float
    files: int
    threads: int
    regions: int
    processes: int


@dataclass
class Findings:
    """What came of a run: answers by reason, faults described, and a sample after each phase."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Memory at the end compared with that after the first phase, as a share."""
        return self.samples[-1].pss_mib / self.samples[0].pss_mib - 1

    @property
    def bytes_an_image(self) -> float:
        """Slope of its own memory over the last images, by least squares: single samples differ by more than a leak.

        Without pages of files: their share changes by more than that when others run the same programs.
        """
        end = self.samples[-1].images
        late = [sample for sample in self.samples if sample.images >= end - LAST_IMAGES]
        memory = [(sample.server_mib + sample.triton_mib) * MIB for sample in late]
        return float(np.polyfit([sample.images for sample in late], memory, 1)[0])

    def leaks(self) -> list[str]:
        """Describe what is left over."""
        first, last = self.samples[0], self.samples[-1]
        bounds = {"files": SPARE_FILES, "threads": SPARE_THREADS, "regions": SPARE_REGIONS, "processes": 0}
        return [
            f"{name}: {getattr(first, name)} at first, {getattr(last, name)} in the end"
            for name, spare in bounds.items()
            if getattr(last, name) > getattr(first, name) + spare
        ]


def soak(service: Service, images: int, seed: int, phase_images: int = PHASE_IMAGES) -> Findings:
    """Send the images phase by phase."""
    findings, pool, before = Findings(), material(), set(service.lasting_processes())
    for done in range(0, images, phase_images):
        count = min(phase_images, images - done)
        asyncio.run(_phase(service, pool, random.Random(seed + done), count, findings))
        findings.samples.append(_sample(service, done + count))
    findings.faults += [f"{name} has ended" for _pid, name in before - set(service.lasting_processes())]
    return findings


def material() -> list[bytes]:
    """Make ten images of mixed sizes in each format."""
    pool = []
    for (width, height), share in SIZES:
        drawn = Image.fromarray(picture(width, height))
        for name in FORMATS:
            pool += [encoded(drawn, name)] * share
    return pool


async def _phase(
    service: Service, pool: Sequence[bytes], choose: random.Random, images: int, findings: Findings
) -> None:
    """Share the images out to streams, which run side by side; those of aborted streams count as sent."""
    left = images
    async with grpc.aio.insecure_channel(service.target, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = BackgroundRemovalServiceStub(channel)

        async def work(own: random.Random) -> None:
            nonlocal left
            while left > 0:
                count = min(left, own.randint(1, 40))
                left -= count
                await _Stream(stub, pool, own, count, findings).run()

        await asyncio.gather(*(work(random.Random(choose.random())) for _ in range(STREAMS)))


class _Stream:
    """One stream and its behaviour."""

    def __init__(self, stub: Any, pool: Sequence[bytes], choose: random.Random, count: int, findings: Findings) -> None:
        kind = choose.random()
        self._abort_after = choose.randrange(count) if kind < ABORTED else None
        self._short = ABORTED <= kind < ABORTED + SHORT
        self._pause = SLOW_READER_SECONDS if ABORTED + SHORT <= kind < ABORTED + SHORT + SLOW else 0.0
        seconds = choose.uniform(*SHORT_SECONDS) if self._short else STREAM_SECONDS
        self._deadline = time.monotonic() + seconds
        self._call = stub.StreamRemoveBackground(timeout=seconds)
        self._pool = pool
        self._choose = choose
        self._count = count
        self._findings = findings
        self._hopeless: set[str] = set()
        self._answered: Counter[str] = Counter()

    async def run(self) -> None:
        """Send, read and look whether all came."""
        sender = asyncio.create_task(self._send())
        try:
            await self._read()
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            # When a stream ends while it is being written to, grpc.aio may report an INTERNAL of its own.
            late = self._short and time.monotonic() >= self._deadline
            if not late and not self._call.cancelled():
                self._findings.faults.append(f"a stream ended: {error!r}")
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        twice = [image for image, times in self._answered.items() if times > 1]
        whole = self._abort_after is None and not self._short
        if twice or (whole and len(self._answered) != self._count):
            text = f"{self._count} images, {len(self._answered)} answered, {len(twice)} of them more than once"
            self._findings.faults.append(text)

    async def _send(self) -> None:
        config = pb.StreamConfig(options=pb.RemovalOptions(**OPTIONS))
        await self._call.write(pb.StreamRemoveBackgroundRequest(config=config))
        for number in range(self._count):
            data = self._choose.choice(self._pool)
            options = pb.RemovalOptions()
            if self._choose.random() < 0.1:
                options.processing_timeout.FromNanoseconds(round(IMPOSSIBLE_SECONDS * 1e9))
                self._hopeless.add(str(number))
            for start in range(0, len(data), CHUNK_BYTES):
                part = pb.ImageChunk(image_id=str(number), data=data[start : start + CHUNK_BYTES])
                part.last = start + CHUNK_BYTES >= len(data)
                if start == 0:
                    part.size_bytes = len(data)
                    part.options.CopyFrom(options)
                await self._call.write(pb.StreamRemoveBackgroundRequest(chunk=part))
        await self._call.done_writing()

    async def _read(self) -> None:
        while (answer := await self._call.read()) is not grpc.aio.EOF:
            if answer.HasField("image"):
                self._take(answer.image)
            if self._abort_after is not None and len(self._answered) > self._abort_after:
                self._call.cancel()
                return
            await asyncio.sleep(self._pause)

    def _take(self, image: pb.ImageResult) -> None:
        reason = "cutout"
        if not image.HasField("cutout"):
            info = error_details_pb2.ErrorInfo()
            image.error.details[0].Unpack(info)
            reason = info.reason
            # An image's time ends with its stream's, too.
            if reason != "DEADLINE" or not (self._short or image.image_id in self._hopeless):
                self._findings.faults.append(f"an image failed: {reason}: {image.error.message}")
        self._answered[image.image_id] += 1
        self._findings.answers[reason] += 1


def _sample(service: Service, images: int) -> Sample:
    service.settle()
    processes, triton = service.processes(), service.all_triton_processes()
    return Sample(
        images,
        round(pss_mib(processes), 1),
        round(own_mib([pid for pid in processes if pid not in triton]), 1),
        round(own_mib(triton), 1),
        open_files(service.pid),
        threads(service.pid),
        service.shared_regions(),
        len(service.lasting_processes()),
    )


def main() -> None:
    """Run, print what came of it and write the report; the exit status tells whether the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if arguments.images < 2 * PHASE_IMAGES:
        parser.error(f"growth takes at least {2 * PHASE_IMAGES} images")
    console, machine, began = Console(width=120), this_machine(), time.monotonic()
    machine.show(console)
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        findings = soak(service, arguments.images, arguments.seed)
    seconds = round(time.monotonic() - began)
    table = Table(
        title=f"The idle service after so many images; {arguments.images} over {STREAMS} streams, {seconds} s"
    )
    for heading in ("images", "PSS MiB", "server MiB", "Triton MiB", "files", "threads", "regions", "processes"):
        table.add_column(heading, justify="right")
    for sample in findings.samples:
        table.add_row(*(f"{value:,}" for value in vars(sample).values()))
    console.print(table)
    console.print("Answers:", ", ".join(f"{reason}: {count:,}" for reason, count in findings.answers.most_common()))
    console.print(f"Faults: {len(findings.faults)}", *findings.faults[:20], sep="\n  ")
    console.print(f"Left over: {findings.leaks() or 'nothing'}")
    console.print(f"Growth after the first phase: {findings.growth:.1%} (limit {MOST_GROWTH:.0%})")
    console.print(
        f"Over the last {LAST_IMAGES:,} images: {findings.bytes_an_image:,.0f} bytes an image (limit "
        f"{MOST_BYTES_AN_IMAGE:,})"
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "seconds": seconds, **vars(arguments), **vars(findings)}
    OUT.write_text(json.dumps(report, indent=1, default=vars) + "\n")
    console.print(f"Written: {OUT}")
    grown = findings.growth > MOST_GROWTH or findings.bytes_an_image > MOST_BYTES_AN_IMAGE
    if findings.faults or findings.leaks() or grown:
        raise SystemExit("The promise was not kept.")


if __name__ == "__main__":
    main()
