"""Compares the first pipeline, the service's profiles and rembg on composed scenes: `make eval`.

Runs every image through the real service by its client library and writes a table, out/eval/eval.json with all numbers,
and out/eval/index.html with the worst scenes side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

import cv2
from benchmarks.quality.measures import Measures, measure
from benchmarks.quality.page import save_panels, write_page
from benchmarks.quality.peers import installed_peers
from benchmarks.quality.pipelines import PROFILES, Pipeline, local_pipelines, served_pipelines
from benchmarks.quality.scenes import Scene, Split, compose_scenes
from benchmarks.quality.summary import print_summary, summarise
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

DEFAULT_SCENES: Final = 150
# Of the terminal: the tables are wide, also where the output goes to a file.
TABLE_COLUMNS: Final = 150


@dataclass(frozen=True)
class Row:
    """One pipeline on one scene."""

    scene: str
    object_name: str
    condition: str
    background: str
    pipeline: str
    seconds: float | None
    confidence: float | None
    measures: Measures

    def flat(self) -> dict[str, Any]:
        """For JSON: one level."""
        values = asdict(self)
        return {**{name: value for name, value in values.items() if name != "measures"}, **values["measures"]}


def main() -> None:
    """Runs the evaluation."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    peers, why_absent = ({}, "left out by --no-peers") if arguments.no_peers else installed_peers()
    opened = (
        local_pipelines(arguments.profiles)
        if arguments.local
        else served_pipelines(arguments.profiles, arguments.target)
    )
    began = time.perf_counter()
    with opened as pipelines:
        scenes = compose_scenes(arguments.data, arguments.scenes, arguments.split)
        rows = list(evaluate(scenes, arguments.scenes, {**pipelines, **peers}, arguments.out))
    flat = [row.flat() for row in rows]
    # Written at once: the run that made them is long.
    (arguments.out / "rows.json").write_text(json.dumps(flat, indent=1))
    summary = summarise(flat)
    summary |= {
        "split": arguments.split,
        "absent_peers": why_absent,
        "through": "this process, network from disk" if arguments.local else "the service over gRPC",
        "elapsed_seconds": time.perf_counter() - began,
    }
    (arguments.out / "eval.json").write_text(json.dumps({**summary, "rows": flat}, indent=1))
    write_page(arguments.out, summary, flat)
    console = Console(width=TABLE_COLUMNS)
    print_summary(summary, console)
    console.print(f"[bold]{arguments.out}/index.html[/]: the worst scenes; [bold]eval.json[/] beside it: all numbers")


def evaluate(scenes: Iterable[Scene], count: int, pipelines: Mapping[str, Pipeline], out: Path) -> Iterable[Row]:
    """Runs all pipelines on each scene and keeps pictures of what they made."""
    with Progress(*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        for scene in progress.track(scenes, total=count, description="scenes"):
            results = {name: pipeline(scene.data) for name, pipeline in pipelines.items()}
            save_panels(out, scene, results)
            for name, result in results.items():
                yield Row(
                    scene.name,
                    scene.object_name,
                    scene.condition,
                    scene.background,
                    name,
                    result.seconds,
                    result.confidence,
                    measure(result, scene),
                )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with rgba/ and backgrounds/")
    parser.add_argument("--scenes", type=int, default=DEFAULT_SCENES, help="how many; 30 give a first answer")
    parser.add_argument("--split", choices=get_args(Split), default="reporting")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES)
    parser.add_argument("--out", type=Path, default=Path("out/eval"))
    parser.add_argument("--target", help="host:port of a running server; default: one is started")
    parser.add_argument(
        "--local", action="store_true", help="no server: the service's code, the network's answers kept"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave rembg out")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
