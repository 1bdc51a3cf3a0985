"""The service beside the bare engine and the peers: `python -m benchmarks.performance.comparison`, of `make bench`.

Every contender makes cutouts of the same JPEG of 2048 x 1536 pixels with the same weights, some images a round, in
turn, so that a change of the machine's load meets all of them. What counts are ratios: the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.performance.contenders import contenders
from benchmarks.performance.machine import this_machine
from benchmarks.performance.material import photo_jpeg
from rich.console import Console
from rich.table import Table

OUT: Final = Path("out/bench/comparison.json")
SIZE: Final = (2048, 1536)
ROUNDS, IMAGES = 4, 4
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Goal:
    """How much faster `faster` has to be than `slower`."""

    faster: str
    slower: str
    least: float


GOALS: Final = (
    Goal("service stream, fast", "rembg library", 2.0),
    Goal("service stream, fast", "rembg s, 4 at once", 2.0),
    Goal("service stream int8, fast", "rembg library", 3.5),
    Goal("service stream int8, fast", "rembg s, 4 at once", 3.5),
    Goal("service stream, balanced", "rembg library", 1.2),
    Goal("service stream, fast", "engine, fast", 0.93),
    Goal("service stream, balanced", "engine, balanced", 0.93),
    Goal("service stream int8, fast", "engine int8, fast", 0.85),
    # Latency: 1.10 of the engine's.
    Goal("service unary, fast", "engine, fast", 1 / 1.10),
)


def main() -> None:
    """Measure, print the tables and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of each contender in a round; default {IMAGES}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    console, machine = Console(width=max(Console().width, 100)), this_machine()
    machine.show(console)
    seconds = measure(arguments.rounds, arguments.images)
    show(console, seconds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "seconds": seconds}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


def measure(rounds: int, images: int) -> Seconds:
    """Give each contender's seconds an image, median of each round; a round before warms up."""
    jpeg = photo_jpeg(*SIZE)
    with tempfile.TemporaryDirectory() as folder, contenders(jpeg, Path(folder)) as runs:
        seconds: Seconds = {name: [] for name in runs}
        for run in runs.values():
            run(1)
        for number in range(rounds):
            for name in list(runs)[:: 1 if number % 2 else -1]:
                seconds[name].append(median(runs[name](images)))
    return seconds


def ratio(seconds: Seconds, goal: Goal) -> float | None:
    """Give how much faster one contender is than another, the median of the rounds; None where one is absent."""
    if goal.faster not in seconds or goal.slower not in seconds:
        return None
    return median(slow / fast for slow, fast in zip(seconds[goal.slower], seconds[goal.faster], strict=True))


def show(console: Console, seconds: Seconds) -> None:
    """Print seconds and ratios."""
    table = Table(title=f"A JPEG of {SIZE[0]} x {SIZE[1]} to its cutout: seconds an image")
    for heading in ("", "median", "least", "most", "images/s"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in sorted(seconds.items(), key=lambda item: median(item[1])):
        numbers = (median(values), min(values), max(values), 1 / median(values))
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    console.print(table)
    for goal in GOALS:
        found = ratio(seconds, goal)
        if found is None:
            console.print(f"[yellow]{goal.faster} / {goal.slower}: not measured, one of them is not here[/]")
        else:
            color = "green" if found >= goal.least else "red"
            wanted = f"(at least {goal.least:.2f})"
            console.print(f"{goal.faster} is [{color}]{found:.2f}[/] times as fast as {goal.slower} {wanted}")


if __name__ == "__main__":
    main()
