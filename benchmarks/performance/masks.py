"""What precision costs the masks: `python -m benchmarks.performance.masks`, part of `make bench`.

The masks of the served networks, through Triton, against ONNX Runtime in float32 on the same input tensor: mean
absolute difference in 0..1, on photos that the int8 network was not calibrated with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from benchmarks.performance.engine import ISNET, ISNET_INT8
from benchmarks.performance.machine import this_machine
from examples.photos import photo_path
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from cutstream_server.imaging.resample import to_network_input
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import Launch, start_triton
from cutstream_server.segmentation.segmenter import NETWORK_SIDE_PX

OUT: Final = Path("out/bench/masks.json")
# Held out by segmentation/quantisation/worker.py too; the last two come with the evaluation's data.
PHOTOS: Final = tuple(photo_path(name) for name in ("astronaut", "chelsea", "coffee", "rocket", "camera"))
MORE_PHOTOS: Final = ("rembg/car-1.jpg", "rembg/plants-1.jpg")
LARGEST: Final = {"isnet": 0.002, "isnet_int8": 0.015}
SECONDS: Final = 300.0


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/evaldata"), help="the evaluation's data")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the report; default {OUT}")
    arguments = parser.parse_args()
    console, machine = Console(), this_machine()
    photos = [*PHOTOS, *(arguments.data / name for name in MORE_PHOTOS if (arguments.data / name).exists())]
    found = asyncio.run(measure(photos))
    show(console, found)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": machine.as_json(), "mean_difference": found}, indent=1) + "\n")
    console.print(f"Written: {arguments.out}")


async def measure(photos: list[Path]) -> dict[str, dict[str, float]]:
    """Give the mean difference by model and photo."""
    models = ("isnet", *(["isnet_int8"] if ISNET_INT8.exists() else []))
    triton = await start_triton(Launch(open_environment(), (Path("model_repository"),), models))
    reference = onnxruntime.InferenceSession(ISNET, providers=["CPUExecutionProvider"])
    connection = TritonConnection(triton.url)
    found: dict[str, dict[str, float]] = {model: {} for model in models}
    try:
        await connection.share_memory(models[0], headers=triton.control_headers, timeout=SECONDS)
        for photo in photos:
            picture = read(photo)
            exact = reference.run(None, {"image": picture})[0]
            for model in models:
                mask = (await connection.infer(model, picture, timeout=SECONDS)).alpha
                found[model][photo.name] = float(np.abs(mask - exact).mean())
    finally:
        await connection.close()
        await triton.stop()
    return found


def read(photo: Path) -> NDArray[np.uint8]:
    """Stretch a photo as the service does."""
    with Image.open(photo) as picture:
        return to_network_input(np.asarray(picture.convert("RGB")), NETWORK_SIDE_PX, NETWORK_SIDE_PX)


def show(console: Console, found: dict[str, dict[str, float]]) -> None:
    """Print the table, and which means are too large."""
    table = Table(title="Mean difference of the mask from ONNX Runtime's in float32, 0..1")
    for heading in ("photo", *found):
        table.add_column(heading, justify="left" if heading == "photo" else "right")
    for photo in next(iter(found.values())):
        table.add_row(photo, *(f"{values[photo]:.5f}" for values in found.values()))
    means = {model: sum(values.values()) / len(values) for model, values in found.items()}
    colors = {model: "green" if mean <= LARGEST[model] else "red" for model, mean in means.items()}
    table.add_row("mean", *(f"[{colors[model]}]{mean:.5f}[/]" for model, mean in means.items()))
    console.print(table)
    console.print(f"at most: {LARGEST}")


if __name__ == "__main__":
    main()
