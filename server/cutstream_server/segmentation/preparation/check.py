"""Compares a built network with its source on one picture, both run by ONNX Runtime in float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from .activation import STRETCHED_FROM_SHARE
from .errors import CheckFailedError
from .interface import Interface
from .network import INPUT_NAME, OUTPUT_NAME
from .normalisation import PIXEL_SCALE

# Casts to float16 inside the source are gone in some builds: 1e-6 to 2e-6 was measured on photos. A wrong normalisation
# or a lost layer gives more than 1e-2.
LARGEST_MEAN_DIFFERENCE = 1e-3

_BEYOND_RANGE = 1e-3
"""How far alpha may lie outside 0..1: rounding."""
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Comparison:
    """What two networks say about one picture.

    Attributes:
        mean: mean absolute difference of their masks in 0..1.
        maximum: the largest one.
        alpha: the built network's mask, float32 [side, side].
    """

    mean: float
    maximum: float
    alpha: NDArray[np.float32]


def compare_networks(source: Path, built: Path, picture: NDArray[np.uint8], interface: Interface) -> Comparison:
    """Run both networks on a picture, one after the other so that only one is in memory.

    Args:
        source: the published network, of this interface.
        built: the served network.
        picture: RGB, uint8 [side, side, 3].

    Raises:
        CheckFailedError: one of them does not run, or the mask is none.
    """
    alpha = run_served(built, picture)
    raw = _run(source, _normalised(_batch(picture), interface), None, interface.output)
    difference = np.abs(alpha - _expected(raw, interface).reshape(alpha.shape))
    return Comparison(float(difference.mean()), float(difference.max()), alpha)


def run_served(built: Path, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a served network on a picture, uint8 [side, side, 3], and return its mask, float32 [side, side].

    Raises:
        CheckFailedError: it does not run, or what it gives is no mask in 0..1.
    """
    alpha = _run(built, _batch(picture), INPUT_NAME, OUTPUT_NAME)
    expected_shape = (1, 1, *picture.shape[:2])
    if alpha.shape != expected_shape:
        raise CheckFailedError(f"the network gives a mask of {alpha.shape} and not {expected_shape}")
    if not np.isfinite(alpha).all() or alpha.min() < -_BEYOND_RANGE or alpha.max() > 1 + _BEYOND_RANGE:
        raise CheckFailedError(
            f"the network's output is {alpha.min():.3g} to {alpha.max():.3g} on this picture, not in 0..1: is it the "
            "right output, and does it need the activation sigmoid?"
        )
    mask: NDArray[np.float32] = alpha[0, 0]
    return mask


def load_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """Return a photo stretched to the network's square, RGB uint8 [side, side, 3]."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB").resize((side, side)))


def drawn_picture(side: int) -> NDArray[np.uint8]:
    """Return a picture that needs no file: a shaded ball before a gradient, RGB uint8 [side, side, 3].

    Networks take the ball for the object, so that the mask holds background, foreground and an edge.
    """
    y, x = np.mgrid[0:side, 0:side] / side
    background = np.stack([0.5 + 0.3 * y, 0.6 + 0.2 * y, 0.75 + 0.1 * x], axis=-1)
    radius = np.hypot(x - 0.5, y - 0.55) / 0.28
    light = np.clip(1.0 - np.hypot(x - 0.42, y - 0.45) / 0.5, 0.15, 1.0)
    ball = light[..., None] * np.array([0.95, 0.3, 0.15])
    return (255 * np.where(radius[..., None] < 1, ball, background)).astype(np.uint8)


def save_mask(alpha: NDArray[np.float32], path: Path) -> None:
    """Write a mask as a grey picture: white is object."""
    Image.fromarray((alpha.clip(0, 1) * 255).round().astype(np.uint8)).save(path)


def _batch(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as the batch [1, 3, side, side]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None])


def _normalised(batch: NDArray[np.uint8], interface: Interface) -> NDArray[np.float32]:
    """Return what the source takes, from uint8 [1, 3, side, side] RGB."""
    channels = batch[:, ::-1] if interface.channel_order == "BGR" else batch
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (interface.mean, interface.std))
    values: NDArray[np.float32] = ((channels / PIXEL_SCALE - mean) / std).astype(np.float32)
    return values.transpose(0, 2, 3, 1) if interface.layout == "NHWC" else values


def _expected(raw: NDArray[np.float32], interface: Interface) -> NDArray[np.float64]:
    """Return alpha for the source's output, of whatever layout: it has one channel."""
    values = raw.astype(np.float64)
    if interface.activation == "sigmoid":
        return 1 / (1 + np.exp(-values))
    if interface.output_range is None:
        return values
    low, high = interface.output_range
    if np.ptp(values) > STRETCHED_FROM_SHARE * (high - low):
        low, high = values.min(), values.max()
    return ((values - low) / (high - low)).clip(0, 1)


def _run(network: Path, batch: NDArray[np.generic], input_name: str | None, output: int | str) -> NDArray[np.float32]:
    """Return one output; without `input_name`, the batch goes to the network's first input, in that one's type."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY  # the published files make it warn about every unused tensor
    try:
        session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        if taken.type == "tensor(float16)":
            batch = batch.astype(np.float16)
        name = output if isinstance(output, str) else session.get_outputs()[output].name
        found: NDArray[np.floating] = session.run([name], {input_name or taken.name: batch})[0]
    except Exception as error:  # ONNX Runtime has a class for each of its codes, and no common one
        raise CheckFailedError(f"ONNX Runtime does not run {network.name}: {error}") from error
    return np.asarray(found, dtype=np.float32)
