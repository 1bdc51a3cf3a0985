"""The bare engine: `python -m benchmarks.performance.engine`, part of `make bench`.

Seconds an image of IS-Net on OpenVINO alone, by precision, input side, batch and thread layout, all in turn, and what
share that is of the processor's own limit: a product of large matrices in the same precision and the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.performance.machine import cpu_flags, this_machine
from rich.console import Console
from rich.table import Table

from cutstream_server.segmentation.embedded.environment import open_environment

OUT: Final = Path("out/bench/engine.json")
WORKER: Final = Path(__file__).with_name("engine_worker.py")
ISNET: Final = Path("model_repository/isnet/1/model.onnx")
ISNET_INT8: Final = Path("model_repository/isnet_int8/1/model.xml")
# Of one image at 1024, multiplications and additions; other sides take in proportion to their pixels.
GFLOP: Final = 319.0
SIDE: Final = 1024
GEMM_SIDE: Final = 2048
ROUNDS: Final = 5


@dataclass
class Layout:
    """One way to run the network; `seconds` are those of its rounds, of `instances * batch` images each."""

    precision: str
    network: str
    sides: tuple[int, ...] = (SIDE,)
    batch: int = 1
    instances: int = 1
    threads: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For the table."""
        layout = f"{self.instances} x {self.threads} thread" if self.instances > 1 else "all threads"
        return f"{self.precision}, {' + '.join(map(str, self.sides))}, batch {self.batch}, {layout}"

    @property
    def seconds_an_image(self) -> float:
        """The median."""
        return median(self.seconds) / (self.batch * self.instances)

    @property
    def gflops(self) -> float:
        """A second."""
        return GFLOP * sum(side**2 for side in self.sides) / SIDE**2 / self.seconds_an_image


class Engine:
    """The worker process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have one order carried out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the engine's process ended; its reason stands above")
        return dict(json.loads(answer))

    def run(self, layout: Layout, images: int) -> None:
        """Add some rounds to a layout."""
        order = {name: value for name, value in asdict(layout).items() if name != "seconds"}
        layout.seconds += self.ask(**order, images=images)["seconds"]


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """A worker, until the end of the block."""
    python = open_environment().python_folder / "python"
    process = subprocess.Popen([python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Engine(process)
    finally:
        process.kill()
        process.wait()


def layouts(cores: int) -> list[Layout]:
    """What this machine and this checkout have."""
    precisions = [("f32", ISNET)]
    if "amx_bf16" in cpu_flags() or "avx512_bf16" in cpu_flags():
        precisions.append(("bf16", ISNET))
    found = []
    for precision, network in precisions:
        found += [Layout(precision, str(network), (side,)) for side in (1024, 768, 512)]
    fastest = found[-3]
    found += [
        Layout(fastest.precision, fastest.network, batch=2),
        Layout(fastest.precision, fastest.network, instances=cores, threads=1),
    ]
    if ISNET_INT8.exists():
        found += [Layout("int8", str(ISNET_INT8), (side,)) for side in (1024, 768)]
    return found


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each layout; default {ROUNDS}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    console, machine = Console(width=max(Console().width, 110)), this_machine()
    machine.show(console)
    rows, ceilings = layouts(machine.cores), {}
    with running_engine() as engine:
        for precision in ("f32", "bf16"):
            ceilings[precision] = engine.ask(gemm=GEMM_SIDE, precision=precision)["gflops"]
        for _ in range(arguments.rounds):
            for row in rows:
                engine.run(row, 1)
    show(console, rows, ceilings)
    report = {
        "machine": machine.as_json(),
        "gemm_gflops": ceilings,
        "layouts": [{**asdict(row), "name": row.name, "seconds_an_image": row.seconds_an_image} for row in rows],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


def show(console: Console, rows: list[Layout], ceilings: dict[str, float]) -> None:
    """Print the table."""
    table = Table(title="IS-Net on bare OpenVINO: median of the rounds")
    for heading in ("precision, side, batch, layout", "s an image", "least", "GFLOP/s", "of the GEMM's"):
        table.add_column(heading, justify="left" if heading.startswith("precision") else "right")
    for row in rows:
        ceiling = ceilings.get(row.precision)
        share = f"{row.gflops / ceiling:.0%}" if ceiling else ""
        least = min(row.seconds) / (row.batch * row.instances)
        table.add_row(row.name, f"{row.seconds_an_image:.3f}", f"{least:.3f}", f"{row.gflops:.0f}", share)
    console.print(table)
    console.print("GEMM of this run: " + ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in ceilings.items()))


if __name__ == "__main__":
    main()
