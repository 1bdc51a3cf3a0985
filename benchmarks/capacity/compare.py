"""The simulation beside the real runs: `python -m benchmarks.capacity.compare`, after `benchmarks.capacity.measure`.

The times of an image are those of the run with one server, round by round; with them the simulation predicts the runs
with one, two and three. What other programs left of the machine is taken from the run that used all of it, as the speed
of its cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from benchmarks.capacity.measure import OUT
from benchmarks.capacity.simulation import Image, Machine, Outcome, Plan, Simulation, Time, poisson
from rich.console import Console
from rich.table import Table

Run = dict[str, Any]
# Of the CPU time of one and the same picture; assumed, and of little weight.
VARIATION: Final = 0.3
SIMULATED_IMAGES: Final = 4000


def main() -> None:
    """Simulate, and print one row for each number of servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=OUT, help=f"default {OUT}")
    arguments = parser.parse_args()
    report = json.loads(arguments.measured.read_text())
    table = Table(title="measured / simulated (error), medians of the rounds; queue: images in the system")
    for heading in ("servers", "cores to be had", "core ms an image", "images/s", "at arrivals/s", "p95 ms", "queue"):
        table.add_column(heading, justify="right")
    rows: dict[int, list[tuple[Run, Outcome, Run, Outcome]]] = {}
    for image, fast, slow in pairs(report["runs"]):
        here = Machine(report["cores"], speed=fast["available"] / report["cores"])
        predicted = simulate(here, image, fast), simulate(here, image, slow)
        rows.setdefault(fast["servers"], []).append((fast, predicted[0], slow, predicted[1]))
    for count, rounds in sorted(rows.items()):
        table.add_row(
            str(count),
            f"{median(fast['available'] for fast, *_ in rounds):.2f}",
            f"{median(1000 * sum(fast['cpu'].values()) / fast['images'] for fast, *_ in rounds):.0f}",
            cell([(fast["images"] / fast["seconds"], outcome.throughput) for fast, outcome, *_ in rounds]),
            f"{median(slow['rate'] for *_, slow, _ in rounds):.1f}",
            cell([(1000 * slow["p95"], 1000 * outcome.p95) for *_, slow, outcome in rounds]),
            cell([(slow["rate"] * slow["mean_latency"], outcome.mean_in_system) for *_, slow, outcome in rounds]),
        )
    Console(width=130).print(table)


def pairs(runs: list[Run]) -> Iterator[tuple[Image, Run, Run]]:
    """The two runs of each number of servers in each round, with the times of that round's single server."""
    for fast, slow in zip(runs[::2], runs[1::2], strict=True):
        if fast["servers"] == 1:
            image = image_of(fast)
        yield image, fast, slow


def image_of(run: Run) -> Image:
    """The CPU seconds of an image at each part."""
    cpu = {part: Time(seconds / run["images"], VARIATION) for part, seconds in run["cpu"].items()}
    return Image(client=cpu["client"], loop=cpu["loop"], work=cpu["work"], network=cpu["network"])


def simulate(here: Machine, image: Image, run: Run) -> Outcome:
    """The same run, simulated: all parts share this machine."""
    everywhere = (0,) * run["servers"]
    plan = Plan((here,), servers=everywhere, tritons=everywhere, client=0)
    return Simulation(plan, image).run(SIMULATED_IMAGES, poisson(run["rate"]) if run["rate"] else None)


def cell(values: list[tuple[float, float]]) -> str:
    """Both medians and the mean error of the rounds."""
    error = fmean(abs(simulated / measured - 1) for measured, simulated in values)
    return f"{median(m for m, _ in values):.1f} / {median(s for _, s in values):.1f} ({error:.0%})"


if __name__ == "__main__":
    main()
