"""What traces and metrics cost a stream: `python -m benchmarks.performance.telemetry`, part of `make bench`.

Two servers with the tiny network take turns with the same images: one with everything on (spans of client, server and
Triton and metrics by OTLP, a Prometheus endpoint that is scraped), one with everything off. The collector is a process
of its own that reads and drops what it gets; its work is on the same cores and so part of what is measured.

Prints images a second, and the CPU time for each image of all that takes part: client, server, its decoders, Triton and
the collector. The throughput with everything on must be at least 0.95 of that without; where other programs keep the
machine busy, the CPU times say what it would be. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.bulk.transfer import cpu_seconds, running_server
from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import masked_jpeg
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from rich.console import Console
from rich.table import Table

import cutstream
from cutstream import tracing

OUT: Final = Path("out/bench/telemetry.json")
# Small, and without foreground colours: the less work an image is, the larger is telemetry's share.
WIDTH, HEIGHT = 1024, 768
PROFILE: Final = "fast"
# Many short rounds: what else goes on in the machine then meets both servers alike.
IMAGES, ROUNDS = 25, 40
LEAST_RATIO: Final = 0.95
# As often as deploy/prometheus does. What is sent by OTLP goes at the SDK's own intervals, 5 s for spans, 60 s for
# metrics.
SCRAPE_SECONDS: Final = 10.0
SINK: Final = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass
class Measured:
    """One server and its rounds: images a second, and CPU milliseconds of all that takes part for each image."""

    name: str
    target: str
    processes: list[int]
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def run(self, image: bytes, count: int) -> None:
        """Streams the image `count` times."""
        with cutstream.Client(self.target) as client:
            began, cpu = time.perf_counter(), self._cpu_seconds()
            for result in client.stream(((str(number), image) for number in range(count)), profile=PROFILE):
                assert isinstance(result, cutstream.Cutout), result
            seconds = time.perf_counter() - began
        self.rates.append(count / seconds)
        self.cpu_ms.append(1000 * (self._cpu_seconds() - cpu) / count)

    def _cpu_seconds(self) -> float:
        return sum(cpu_seconds(process) for process in self.processes)


def main() -> None:
    """Measures, prints the table and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"images of a round; default {IMAGES}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each server; default {ROUNDS}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    console, machine = Console(), this_machine()
    machine.show(console)
    off, on = measure(arguments.images, arguments.rounds)
    ratio = median(one / other for one, other in zip(on.rates, off.rates, strict=True))
    cpu_ratio = median(other / one for one, other in zip(on.cpu_ms, off.cpu_ms, strict=True))
    show(console, off, on, ratio, cpu_ratio)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": machine.as_json(),
        "images": arguments.images,
        "throughput_ratio": round(ratio, 4),
        "cpu_ratio": round(cpu_ratio, 4),
        "servers": [{"name": m.name, "images_per_second": m.rates, "cpu_ms": m.cpu_ms} for m in (off, on)],
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


def measure(images: int, rounds: int) -> tuple[Measured, Measured]:
    """Runs both servers in turn."""
    image = masked_jpeg(WIDTH, HEIGHT)
    os.environ.update({name: "" for name in os.environ if name.startswith("OTEL_")})
    with contextlib.ExitStack() as stack:
        (endpoint, sink), scraped = stack.enter_context(collector()), free_address()
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "CUTSTREAM_METRICS_LISTEN": scraped,
        }
        off_target, off_process = stack.enter_context(running_server(folders[0]))
        on_target, on_process = stack.enter_context(running_server(folders[1], **settings))
        # Only after an image all processes of a server are there.
        off, on = Measured("off", off_target, []), Measured("on", on_target, [])
        for server, process in ((off, off_process), (on, on_process)):
            server.run(image, 1)
            server.processes = [os.getpid(), sink, *family(process)]
        stack.enter_context(scrapes(f"http://{scraped}/metrics"))
        tracers = {off.name: tracing._tracer, on.name: stack.enter_context(traces(endpoint)).get_tracer("cutstream")}
        for number in range(rounds + 2):
            for server in (off, on) if number % 2 else (on, off):
                tracing._tracer = tracers[server.name]
                server.run(image, images)
    for server in (off, on):
        # The image for the processes, and the first two rounds, which warm up.
        del server.rates[:3], server.cpu_ms[:3]
    return off, on


def free_address() -> str:
    """An address of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def family(process: int) -> list[int]:
    """A process and all that descend from it."""
    children = [
        int(child) for task in Path(f"/proc/{process}/task").glob("*/children") for child in task.read_text().split()
    ]
    return [process, *(member for child in children for member in family(child))]


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, int]]:
    """A process that takes what is sent to it: its endpoint and process id."""
    process = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def traces(endpoint: str) -> Iterator[TracerProvider]:
    """Spans of this process that are sent."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    yield provider
    provider.shutdown()


@contextlib.contextmanager
def scrapes(url: str) -> Iterator[None]:
    """Reads a Prometheus endpoint again and again, in a thread."""
    stopped = threading.Event()

    def scrape() -> None:
        while not stopped.wait(SCRAPE_SECONDS):
            with urllib.request.urlopen(url) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def show(console: Console, off: Measured, on: Measured, ratio: float, cpu_ratio: float) -> None:
    """Prints medians with the worst and the best round."""
    table = Table(title=f"A stream of {WIDTH} x {HEIGHT} JPEG, tiny network, profile {PROFILE}: median (least to most)")
    for heading in ("traces and metrics", "images/s", "CPU ms an image"):
        table.add_column(heading, justify="right")
    for server in (off, on):
        table.add_row(server.name, *(_cell(values) for values in (server.rates, server.cpu_ms)))
    console.print(table)
    for name, value in (("images/s on / off", ratio), ("CPU time off / on", cpu_ratio)):
        color = "green" if value >= LEAST_RATIO else "red"
        console.print(f"{name}, median of the rounds: [{color}]{value:.3f}[/] (at least {LEAST_RATIO})")


def _cell(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
