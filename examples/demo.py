"""The main job from end to end: `python -m examples.demo [IMAGE]`, or `make demo`.

Starts the service with its embedded Triton, cuts one photo out through the client library, writes the cutout and a
comparison to look at, prints what was measured, and stops all that it started.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from examples.photos import photo_path
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

import cutstream

OUT = Path("out/demo")
START_SECONDS = 120
STOP_SECONDS = 40
PANEL_PX = 518
SQUARE_PX = 14

console = Console()


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path, help="a photo; default: one that comes with scikit-image")
    photo = parser.parse_args().image or photo_path("coffee")
    OUT.mkdir(parents=True, exist_ok=True)
    with running_server() as target, cutstream.Client(target) as client:
        started = time.perf_counter()
        cutout = client.remove(photo)
        elapsed = time.perf_counter() - started
        mask = client.remove(photo, framing="full", channels="alpha")
    cutout.save(OUT / "cutout.png")
    comparison = side_by_side(Image.open(photo), mask.image, cutout.image)
    comparison.save(OUT / "comparison.png")
    print_metrics(cutout.metrics)
    print_stages(cutout.metrics.durations, elapsed)
    console.print(f"[bold]{OUT / 'cutout.png'}[/]: {cutout.width_px} x {cutout.height_px} RGBA from {photo}")
    console.print(f"[bold]{OUT / 'comparison.png'}[/]: input, mask, cutout on a checkerboard")


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Runs `cutstream-server serve` on a free port and gives its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    log_path = OUT / "server.log"
    command = [str(Path(sys.executable).with_name("cutstream-server")), "serve", "--listen", target]
    with log_path.open("wb") as log, subprocess.Popen(command, stderr=log) as server:  # noqa: S603 - our own command
        try:
            with console.status("Starting the server and its Triton ..."):
                wait_until_ready(server, target, log_path)
            yield target
        finally:
            server.terminate()
            server.wait(STOP_SECONDS)


def wait_until_ready(server: subprocess.Popen[bytes], target: str, log_path: Path) -> None:
    """Waits until the server's health says SERVING; when it dies first, shows the end of its log."""
    with cutstream.Client(target) as client:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if server.poll() is not None:
                sys.exit(f"The server did not start:\n{log_path.read_text()[-2000:]}")
            with contextlib.suppress(cutstream.CutoutError):
                return client.wait_ready(timeout_seconds=1)
    sys.exit(f"The server was not ready within {START_SECONDS} s; its log is {log_path}")


def side_by_side(photo: Image.Image, mask: Image.Image, cutout: Image.Image) -> Image.Image:
    """Puts input, mask and cutout next to each other, the cutout on a checkerboard."""
    rows, columns = np.indices((PANEL_PX, PANEL_PX)) // SQUARE_PX
    checkerboard = Image.fromarray(np.where((rows + columns) % 2, 200, 240).astype(np.uint8)).convert("RGBA")
    checkerboard.alpha_composite(cutout.resize((PANEL_PX, PANEL_PX)))
    panels = [ImageOps.exif_transpose(photo).convert("RGB"), mask.convert("RGB"), checkerboard.convert("RGB")]
    panels = [ImageOps.contain(panel, (2 * PANEL_PX, PANEL_PX)) for panel in panels]
    sheet = Image.new("RGB", (sum(panel.width for panel in panels), PANEL_PX), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (PANEL_PX - panel.height) // 2))
        left += panel.width
    return sheet


def print_metrics(metrics: cutstream.Metrics) -> None:
    """Prints what was measured on the mask."""
    table = Table("metric", "value", title="Metrics")
    for name in (
        "validation",
        "threshold",
        "object_coverage_ratio",
        "mask_confidence_mean",
        "soft_edge_ratio",
        "edge_sharpness",
        "component_count",
        "touches_border",
        "cropped_alpha_ratio",
    ):
        value = getattr(metrics, name)
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    if metrics.centering is not None:
        table.add_row("centering.score", f"{metrics.centering.score:.4f}")
    console.print(table)


def print_stages(durations: cutstream.StageDurations, elapsed: float) -> None:
    """Prints the time of each stage."""
    table = Table("stage", "ms", title="Time")
    for name, seconds in vars(durations).items():
        if seconds is not None:
            table.add_row(name, f"{1000 * seconds:.1f}")
    table.add_row("seen by the client", f"{1000 * elapsed:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
