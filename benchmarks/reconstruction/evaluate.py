"""What cutouts do to a 3D model: `make eval-3d`.

Shapes made by code are photographed from known places, cut out by each pipeline, and carved to visual hulls, which are
compared with the shapes; `--downstream` does the same with the meshes of any image-to-3D command. Writes a table,
out/reconstruction/results.json, and out/reconstruction/index.html with all views side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import cv2
from benchmarks.quality import before, frame, peers, pipelines
from benchmarks.quality.peers import installed_peers
from benchmarks.quality.pipelines import PROFILES, Pipeline, local_pipelines, served_pipelines
from benchmarks.reconstruction.carving import Grid
from benchmarks.reconstruction.catalogue import SHAPES
from benchmarks.reconstruction.comparison import Downstream, compare, cut_all
from benchmarks.reconstruction.cutouts import CutoutCache, version_of
from benchmarks.reconstruction.downstream import Command
from benchmarks.reconstruction.page import totals_tables, write_page
from benchmarks.reconstruction.scores import Row, summarise
from benchmarks.reconstruction.views import MOST_VIEWS, background_paths, take_views
from rich.console import Console
from rich.progress import track

import cutstream_server

OUT: Final = Path("out/reconstruction")
MODEL: Final = Path("model_repository/isnet")
GRID_SIDE: Final = 128
COMMAND_SECONDS: Final = 600.0
LEAST_WIDTH: Final = 140
PEER: Final = "rembg"


def main() -> None:
    """Runs the evaluation."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = Command(arguments.downstream, arguments.downstream_seconds) if arguments.downstream else None
    downstream = Downstream(command, arguments.downstream_frame == "world") if command else None
    peer, why_absent = ({}, "left out by --no-peers") if arguments.no_peers else _peer()
    opened = (
        local_pipelines(arguments.profiles)
        if arguments.local
        else served_pipelines(arguments.profiles, arguments.target)
    )
    backgrounds, grid, out = background_paths(arguments.data), Grid(arguments.grid), arguments.out
    rows: list[Row] = []
    with opened as served:
        compared = _kept({**served, **peer}, out / "cutouts", remembered=arguments.target is None)
        for shape in track(SHAPES[: arguments.shapes], "shapes"):
            views = list(take_views(shape, arguments.views, backgrounds, out / "renderings"))
            rows += compare(shape, views, cut_all(views, compared), grid, out, downstream)
    title = f"{arguments.shapes} shapes, {arguments.views} views of each, {arguments.grid} voxels an axis"
    _report(out, {"title": title, "absent_peers": why_absent, "downstream": arguments.downstream}, rows)


def _report(out: Path, facts: Mapping[str, str | None], rows: Sequence[Row]) -> None:
    summary, title = summarise(rows), str(facts["title"])
    numbers = {**facts, "totals": summary, "rows": [asdict(row) for row in rows]}
    (out / "results.json").write_text(json.dumps(numbers, indent=1))
    write_page(out / "index.html", title, summary, rows)
    # Room for all columns, in a log too.
    console = Console(width=max(Console().width, LEAST_WIDTH))
    console.print(title, *totals_tables(summary), sep="\n")
    if facts["absent_peers"]:
        console.print(f"rembg is absent: {facts['absent_peers']}")
    console.print(f"[bold]{out / 'index.html'}[/]: all views; {out / 'results.json'}: all numbers")


def _peer() -> tuple[dict[str, Pipeline], str]:
    """One of the peers: they differ in colours alone, and only alpha carves."""
    found, why_absent = installed_peers()
    return {name: pipeline for name, pipeline in found.items() if name == PEER}, why_absent


def _kept(compared: Mapping[str, Pipeline], folder: Path, *, remembered: bool) -> Mapping[str, Pipeline]:
    """The pipelines, asked once for each image; a server that is not ours may change unseen, so it is always asked."""
    if not remembered:
        return compared
    sources = [Path(str(module.__file__)) for module in (before, frame, peers, pipelines)]
    server = Path(cutstream_server.__file__).parent
    cache = CutoutCache(
        folder, version_of(server, *sources, *sorted(MODEL.rglob("*.pbtxt")), *sorted(MODEL.rglob("*.json")))
    )
    return {name: cache.keep(name, pipeline) for name, pipeline in compared.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with backgrounds/; default: textures of scikit-image")
    parser.add_argument("--shapes", type=_number(1, len(SHAPES)), default=len(SHAPES), help="the first N shapes")
    parser.add_argument("--views", type=_number(2, MOST_VIEWS), default=MOST_VIEWS, help="the first N views of each")
    parser.add_argument("--grid", type=_number(16, 256), default=GRID_SIDE, help="voxels an axis")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES)
    parser.add_argument("--no-peers", action="store_true", help="leave rembg out")
    parser.add_argument("--target", help="host:port of a running server; default: one is started")
    parser.add_argument("--local", action="store_true", help="no server: the service's code, the network on disk")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--downstream", metavar="CMD", help="an image-to-3D command; {folder} is its folder of cutouts")
    parser.add_argument(
        "--downstream-frame",
        choices=("any", "world"),
        default="any",
        help="any: meshes are turned, moved and scaled to lie over the shape; world: they lie as cameras.json says",
    )
    parser.add_argument("--downstream-seconds", type=float, default=COMMAND_SECONDS, help="the longest for one mesh")
    arguments = parser.parse_args()
    if arguments.downstream and "{folder}" not in arguments.downstream:
        parser.error("--downstream must hold {folder}, the place of the cutouts and of the mesh")
    return arguments


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} to {most}")
        return int(text)

    return number


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
