"""One report of all performance measurements: `python -m benchmarks.performance.report`, the last part of `make bench`.

Reads the reports that the other parts left in out/bench/ and writes out/bench/report.md, the goals with what was found,
and its plots beside it. A part that was not run is named, and is no success.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from benchmarks.performance.comparison import GOALS, ratio
from matplotlib import pyplot
from rich.console import Console

OUT: Final = Path("out/bench")
MOST_CPU_OF_STAGES: Final = 1.25
LEAST_CORES_BUSY: Final = 1.6
MOST_PEAK_MIB: Final = 2500 * 1e6 / (1 << 20)
MOST_FIRST_ANSWER_SECONDS: Final = 20.0
MOST_DIFFERENCE: Final = {"isnet": 0.002, "isnet_int8": 0.015}
Reports = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One goal, and what was found; None where it was not measured."""

    goal: str
    wanted: str
    found: float | None
    met: bool

    def row(self) -> str:
        """Give the line of a table in Markdown."""
        found = "not measured" if self.found is None else f"{self.found:.3g}"
        return f"| {self.goal} | {self.wanted} | {found} | {'yes' if self.met else 'no'} |"


def main() -> None:
    """Read, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=OUT, help=f"where the reports are; default {OUT}")
    folder = parser.parse_args().folder
    mpl.use("agg")
    reports = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    lines = ["# Performance", "", *machines(reports), "", "| goal | wanted | found | met |", "|---|---|---|---|"]
    lines += [finding.row() for finding in findings(reports)]
    for name, draw in PLOTS.items():
        figure = draw(reports)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            pyplot.close(figure)
            lines += ["", f"![{name}]({name}.png)"]
    out = folder / "report.md"
    out.write_text("\n".join(lines) + "\n")
    Console().print(out.read_text(), markup=False, highlight=False, soft_wrap=True)


def machines(reports: Reports) -> Iterator[str]:
    """Say what each part was measured on, and how busy that was."""
    for name, report in reports.items():
        if machine := report.get("machine"):
            yield f"- {name}: {machine['processor']}, {machine['cores']} cores, load {machine['load']} before the start"


def findings(reports: Reports) -> Iterator[Finding]:
    """Judge every goal."""
    seconds = reports.get("comparison", {}).get("seconds", {})
    for goal in GOALS:
        found = ratio(seconds, goal)
        title = f"{goal.faster}: times as fast as {goal.slower}"
        yield Finding(title, f"at least {goal.least:.2f}", found, found is not None and found >= goal.least)
    differences = reports.get("masks", {}).get("mean_difference", {})
    for model, most in MOST_DIFFERENCE.items():
        values = differences.get(model)
        mean = sum(values.values()) / len(values) if values else None
        yield _at_most(f"{model}: mean difference of the masks from ONNX Runtime's", most, mean)
    tiny = reports.get("service_tiny", {})
    busy = max((_cores_busy(row) for row in tiny.get("streams", [])), default=None)
    yield Finding(
        "tiny network: cores busy with server, client and Triton",
        f"at least {LEAST_CORES_BUSY}",
        busy,
        busy is not None and busy >= LEAST_CORES_BUSY,
    )
    cpu = [row["server_cpu"] for row in tiny.get("streams", [])]
    share = median(cpu) / tiny["stages_cpu_seconds"] if cpu else None
    yield _at_most("tiny network: the server's CPU, of that of its stages alone", MOST_CPU_OF_STAGES, share)
    isnet = reports.get("service_isnet", {})
    yield _at_most("MiB at the peak, 16 images of 12 megapixels in flight", MOST_PEAK_MIB, isnet.get("peak_mib"))
    first = isnet.get("first_answer_seconds")
    yield _at_most("seconds from a second start to the first answer", MOST_FIRST_ANSWER_SECONDS, first)


def _at_most(goal: str, most: float, found: float | None) -> Finding:
    return Finding(goal, f"at most {most:.4g}", found, found is not None and found <= most)


def _cores_busy(row: dict[str, float]) -> float:
    return (row["server_cpu"] + row["triton_cpu"] + row["client_cpu"]) / row["wall"]


def draw_comparison(reports: Reports) -> Any:
    """Bars: seconds an image of each contender, with the least and the most of the rounds."""
    seconds = reports.get("comparison", {}).get("seconds")
    if not seconds:
        return None
    names = sorted(seconds, key=lambda name: -median(seconds[name]))
    middle = np.array([median(seconds[name]) for name in names])
    spread = [middle - [min(seconds[name]) for name in names], [max(seconds[name]) for name in names] - middle]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1))
    colors = ["tab:green" if name.startswith("service") else "tab:gray" for name in names]
    axes.barh(names, middle, xerr=spread, color=colors)
    axes.set_xlabel("seconds an image (median; least and most of the rounds)")
    return figure


def draw_windows(reports: Reports) -> Any:
    """Lines: a stream's images a second by its window, of each network."""
    services = {name: report for name, report in reports.items() if name.startswith("service_")}
    if not services:
        return None
    figure, grid = pyplot.subplots(1, len(services), figsize=(4 * len(services), 3), squeeze=False)
    for axes, report in zip(grid[0], services.values(), strict=True):
        rows = report["streams"]
        axes.plot([row["window"] for row in rows], [row["images_per_second"] for row in rows], "o-")
        axes.set(xscale="log", title=report["model"], xlabel="window", ylabel="images/s", ylim=(0, None))
        axes.set_xticks([row["window"] for row in rows], [str(row["window"]) for row in rows])
    return figure


def draw_transport(reports: Reports) -> Any:
    """Bars: CPU time of an image's way to Triton and back, on the wire and in shared memory."""
    cells = [cell for cell in reports.get("transport", {}).get("cells", []) if cell["model"] == "tiny"]
    if not cells:
        return None
    names = [f"{cell['transport']}, {cell['at_once']} at once" for cell in cells]
    client, triton = ([median(cell[key]) for cell in cells] for key in ("client_cpu", "triton_cpu"))
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1))
    axes.barh(names, client, label="client")
    axes.barh(names, triton, left=client, label="Triton")
    axes.set_xlabel("CPU ms an image of 1024 x 1024, tiny network")
    axes.legend()
    return figure


PLOTS: Final[dict[str, Callable[[Reports], Any]]] = {
    "comparison": draw_comparison,
    "windows": draw_windows,
    "transport": draw_transport,
}


if __name__ == "__main__":
    main()
