"""Quantises a served network and measures what that does to its masks: runs in the quantiser's environment.

Usage: worker.py NETWORK.onnx TARGET.xml SIDE [FOLDER of photos to calibrate with]. Ends with a line of JSON on standard
output: the mean absolute difference of the masks of both networks in 0..1, by photo.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import skimage
import sklearn
from PIL import Image

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
CALIBRATION = (
    *(SKIMAGE / name for name in ("motorcycle_left.png", "motorcycle_right.png", "horse.png", "coins.png")),
    *(SKIMAGE / name for name in ("retina.jpg", "hubble_deep_field.jpg", "clock_motion.png", "ihc.png", "moon.png")),
    *(SKIMAGE / name for name in ("brick.png", "cell.png", "logo.png")),
    SKLEARN / "china.jpg",
)
"""Photos of objects, of nothing and of drawings, in colour and grey: the range of each layer is what counts."""

HELD_OUT = (
    *(SKIMAGE / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png")),
    SKLEARN / "flower.jpg",
)
"""The photos on which the difference is measured; never one of those for calibration."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def main(network: Path, target: Path, side: int, folder: Path | None) -> None:
    """Quantise, save and compare."""
    photos = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES] if folder else CALIBRATION
    model = openvino.Core().read_model(network)
    quantised = nncf.quantize(
        model,
        nncf.Dataset([load(photo, side) for photo in photos]),
        # Activations that may be negative asymmetrically, the rest symmetrically: the network ends its layers in ReLU.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(photos),
        target_device=nncf.TargetDevice.CPU,
    )
    openvino.save_model(quantised, target, compress_to_fp16=False)
    expected, found = masks(network, side), masks(target, side)
    differences = {
        photo.name: float(np.abs(mask - exact).mean())
        for photo, exact, mask in zip(HELD_OUT, expected, found, strict=True)
    }
    print(json.dumps(differences))  # noqa: T201 - the answer


def load(photo: Path, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Give a photo as the service stretches it: uint8 [1, 3, side, side], RGB."""
    with Image.open(photo) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def masks(network: Path, side: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Run a network on the photos that are held out, in float32 where it is not quantised."""
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(network, "CPU", properties)
    for photo in HELD_OUT:
        yield compiled([load(photo, side)])[0]


if __name__ == "__main__":
    paths = [Path(argument) for argument in (*sys.argv[1:3], *sys.argv[4:])]
    main(paths[0], paths[1], int(sys.argv[3]), paths[2] if paths[2:] else None)
