"""Compares the built network with its source on one picture, both run by ONNX Runtime in float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from .network import INPUT_NAME, PIXEL_MEAN, PIXEL_SCALE

CHECK_SIDE_PX = 1024
"""The side of the square that the network was trained for, and the only one that the source takes."""

# Casts to float16 inside the source are gone in the build: 1e-6 to 2e-6 was measured on photos. A wrong normalisation
# or a lost layer gives more than 1e-2.
LARGEST_MEAN_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Comparison:
    """Mean and largest absolute difference of two masks in 0..1, and the mean of the source's mask."""

    mean: float
    maximum: float
    source_mean: float


def compare_networks(source: Path, built: Path, picture: NDArray[np.uint8]) -> Comparison:
    """Run both networks on a picture, one after the other so that only one is in memory.

    Args:
        source: the published network; its only input takes x / 255 - 0.5, its first output is the mask.
        built: the served network.
        picture: RGB, uint8 [1024, 1024, 3].
    """
    batch = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
    normalised = (batch / np.float32(PIXEL_SCALE) - np.float32(PIXEL_MEAN)).astype(np.float32)
    expected = _mask(source, None, normalised)
    difference = np.abs(_mask(built, INPUT_NAME, batch) - expected)
    return Comparison(float(difference.mean()), float(difference.max()), float(expected.mean()))


def load_picture(path: Path) -> NDArray[np.uint8]:
    """Return a photo stretched to the network's square, RGB uint8 [1024, 1024, 3]."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB").resize((CHECK_SIDE_PX, CHECK_SIDE_PX)))


def drawn_picture() -> NDArray[np.uint8]:
    """Return a picture that needs no file: a shaded ball before a gradient, RGB uint8 [1024, 1024, 3].

    The network takes the ball for the object, so that its mask holds background, foreground and an edge.
    """
    y, x = np.mgrid[0:CHECK_SIDE_PX, 0:CHECK_SIDE_PX] / CHECK_SIDE_PX
    background = np.stack([0.5 + 0.3 * y, 0.6 + 0.2 * y, 0.75 + 0.1 * x], axis=-1)
    radius = np.hypot(x - 0.5, y - 0.55) / 0.28
    light = np.clip(1.0 - np.hypot(x - 0.42, y - 0.45) / 0.5, 0.15, 1.0)
    ball = light[..., None] * np.array([0.95, 0.3, 0.15])
    return (255 * np.where(radius[..., None] < 1, ball, background)).astype(np.uint8)


def _mask(network: Path, input_name: str | None, batch: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the first output; without `input_name`, the batch goes to the network's first input."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors; the published files make it warn about every unused tensor
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = input_name or session.get_inputs()[0].name
    mask: NDArray[np.float32] = session.run([session.get_outputs()[0].name], {name: batch})[0]
    return mask
