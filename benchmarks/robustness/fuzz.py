"""Damaged images and requests against a real server: `make fuzz`, `python -m benchmarks.robustness.fuzz`.

Every one must be answered by a result or a typed error, no process may end, and memory must stay flat. What damages is
drawn from a seed, so that a run can be repeated; the images that end a decoder, if there are any, are written down.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from benchmarks.performance.machine import this_machine
from benchmarks.robustness.material import SEED, small_files
from benchmarks.robustness.mutations import damaged_images, damaged_message, random_request, random_stream
from benchmarks.robustness.service import Service, running_service
from google.rpc import error_details_pb2, status_pb2
from rich.console import Console
from rich.table import Table

import cutstream
from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.errors import CutstreamError

OUT: Final = Path("out/robustness/fuzz.json")
# A small output: the time is for decoders.
OPTIONS: Final[dict[str, Any]] = {"model": "tiny", "profile": "fast", "output_width_px": 32}
SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"].full_name
# Those that the API names, but for the one that means a fault of the server's own.
REASONS: Final = {kind.reason for kind in CutstreamError.__subclasses__()} - {"INTERNAL_FAULT"}
CALL_SECONDS: Final = 120
AT_ONCE: Final = 8
SAMPLES: Final = 10
MOST_GROWTH: Final = 0.10
ENDED_DECODER: Final = "ended its decoder"


@dataclass
class Findings:
    """What came of a run.

    Attributes:
        images: answers by reason, "cutout" for those that worked.
        requests: the same of damaged requests.
        unanswered: what was neither a result nor a typed error, described.
        ended_processes: processes of the service that were there before and not after, by name.
        ended_decoders: lines of the log on images that ended a decoder.
        memory_mib: memory of service, decoders and Triton after each part of the run.
        growth: of the memory after warming up, as a share.
    """

    images: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    ended_processes: list[str] = field(default_factory=list)
    ended_decoders: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Rise of a line through the samples, by least squares: single ones differ by more than a leak would make.

        Without the first one, up to which every pool and cache grows to its size.
        """
        samples = self.memory_mib[1:]
        rise = np.polyfit(range(len(samples)), samples, 1)[0] * (len(samples) - 1)
        return float(rise / np.mean(samples))


def fuzz(service: Service, images: int, requests: int, seed: int) -> Findings:
    """Send damaged images, then damaged requests."""
    findings, before, log_bytes = Findings(), set(service.lasting_processes()), service.log.stat().st_size
    for part in range(SAMPLES):
        first, last = images * part // SAMPLES, images * (part + 1) // SAMPLES
        _send_images(service, range(first, last), seed + part, findings)
        findings.memory_mib.append(service.settled_mib())
    _send_requests(service, requests, seed, findings)
    findings.memory_mib.append(service.settled_mib())
    findings.ended_processes = [name for _pid, name in before - set(service.lasting_processes())]
    log = service.log.read_bytes()[log_bytes:].decode()
    findings.ended_decoders = [line for line in log.splitlines() if ENDED_DECODER in line]
    return findings


def _send_images(service: Service, numbers: range, seed: int, findings: Findings) -> None:
    files = list(small_files().values())
    answered = set()

    def pairs() -> Iterator[tuple[str, bytes]]:
        for number, data in zip(numbers, damaged_images(files, seed, len(numbers)), strict=True):
            yield str(number), data

    with cutstream.Client(service.target, retry=cutstream.RetryConfig(max_attempts=1)) as client:
        for result in client.stream(pairs(), image_timeout_seconds=CALL_SECONDS, **OPTIONS):
            answered.add(result.image_id)
            reason = result.reason if isinstance(result, cutstream.CutoutError) else "cutout"
            findings.images[reason] += 1
            if reason != "cutout" and reason not in REASONS:
                findings.unanswered.append(f"image {result.image_id} of seed {seed}: {result}")
    findings.unanswered += [f"image {number} of seed {seed}" for number in numbers if str(number) not in answered]


def _send_requests(service: Service, count: int, seed: int, findings: Findings) -> None:
    images = list(small_files().values())
    # Not grpc.aio: when a stream is refused while it is still being sent, that reports an error of its own.
    with grpc.insecure_channel(service.target) as channel, ThreadPoolExecutor(AT_ONCE) as senders:
        unary: Any = channel.unary_unary(f"/{SERVICE_NAME}/RemoveBackground")
        stream: Any = channel.stream_stream(f"/{SERVICE_NAME}/StreamRemoveBackground")

        def send(number: int) -> tuple[str, str]:
            choose = random.Random(f"{seed} {number}")
            try:
                if number % 2:
                    request = damaged_message(choose, random_request(choose, images))
                    pb.RemoveBackgroundResponse.FromString(unary(request, timeout=CALL_SECONDS))
                else:
                    messages = [damaged_message(choose, part) for part in random_stream(choose, images)]
                    for answer in stream(iter(messages), timeout=CALL_SECONDS):
                        pb.StreamRemoveBackgroundResponse.FromString(answer)
            except grpc.RpcError as error:
                return _reason(error) or error.code().name, f"request {number} of seed {seed}: {error}"
            return "answered", ""

        for reason, text in senders.map(send, range(count)):
            findings.requests[reason] += 1
            if reason != "answered" and reason not in REASONS:
                findings.unanswered.append(text)


def _reason(error: grpc.RpcError) -> str:
    """Give the typed reason of an error; empty when it has none."""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            if status_pb2.Status.FromString(value).details[0].Unpack(info):
                return str(info.reason)
    return ""


def main() -> None:
    """Run, print what came of it and write the report; the exit status tells whether the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    console, machine, began = Console(width=120), this_machine(), time.monotonic()
    machine.show(console)
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        findings = fuzz(service, arguments.images, arguments.requests, arguments.seed)
    seconds = round(time.monotonic() - began)
    table = Table(title=f"{arguments.images} images, {arguments.requests} requests, seed {arguments.seed}, {seconds} s")
    for heading in ("answer", "images", "requests"):
        table.add_column(heading, justify="left" if heading == "answer" else "right")
    for reason in sorted({*findings.images, *findings.requests}):
        table.add_row(reason, f"{findings.images[reason]:,}", f"{findings.requests[reason]:,}")
    console.print(table)
    console.print(f"Unanswered or untyped: {len(findings.unanswered)}", *findings.unanswered[:20], sep="\n  ")
    console.print(f"Ended processes: {len(findings.ended_processes)}", *findings.ended_processes, sep="\n  ")
    console.print(f"Ended decoders: {len(findings.ended_decoders)}", *findings.ended_decoders[:20], sep="\n  ")
    console.print("Memory in MiB:", ", ".join(f"{sample:.0f}" for sample in findings.memory_mib))
    console.print(f"Growth after warming up: {findings.growth:.1%} (limit {MOST_GROWTH:.0%})")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "seconds": seconds, **vars(arguments), **vars(findings)}
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {OUT}")
    if findings.unanswered or findings.ended_processes or findings.growth > MOST_GROWTH:
        raise SystemExit("The promise was not kept.")


if __name__ == "__main__":
    main()
