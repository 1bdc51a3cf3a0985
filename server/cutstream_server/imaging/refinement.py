"""Edges of a predicted mask, corrected by the colours on either side of them."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import Floats, Pixels

# The grid that `radius` refers to: the long side of the network's own input.
RADIUS_GRID_PX: Final = 1024
# Local colours are gathered on a grid this much coarser: a quarter of the time, the same result within 0.1 percent.
REDUCTION: Final = 2
# Alpha outside these is sure: the network's own word stands there, and colours are learned from it.
UNSURE_FROM, UNSURE_TO = 0.2, 0.8
# A window that holds less than this share of sure object or of sure background knows nothing of it.
LEAST_SHARE: Final = 0.02
# How much the spread of the two colours counts against their distance before an estimate is believed. 1 makes more
# edges worse, 20 corrects half as much (docs/quality.md).
SPREAD_WEIGHT: Final = 5.0


def refine_edges(alpha: AlphaMap, rgb: Pixels, *, radius: int, eps: float) -> AlphaMap:
    """Correct alpha where the network is unsure, by the place of the pixel's colour between object and background.

    In a window around a pixel with alpha from 0.2 to 0.8, the mean colours F of what is surely object and B of what is
    surely background give a line; alpha is where the pixel's colour I falls on it, (I - B)(F - B) / (|F - B|^2 + eps).
    The estimate replaces the network's alpha in the measure in which the two colours are apart:
    |F - B|^2 / (|F - B|^2 + 5 * (spread of both) + eps). All other pixels stay as they are.

    This is the local linear model of the guided filter (He et al.), fitted to the sure pixels only. The guided filter
    itself fits the unsure ones too: where texture does not explain alpha it blurs the edge, and its edges were worse
    than the network's with every radius, eps, guide and band that was tried (docs/quality.md).

    Args:
        alpha: (h, w) in 0..1, a prediction that covers the whole image.
        rgb: (H, W, 3) the image, uint8 or uint16.
        radius: of the window, in pixels of a grid with a long side of 1024.
        eps: keeps alpha from following noise where object and background have nearly one colour; squared colour
            differences, channels in 0..1.

    Returns:
        (h, w) in 0..1.

    Sources: K. He, J. Sun, X. Tang, "Guided Image Filtering", IEEE TPAMI 35 (2013); the colour line: M. Ruzon and
    C. Tomasi, "Alpha Estimation in Natural Images", CVPR 2000.
    """
    rows, columns = np.nonzero((alpha >= UNSURE_FROM) & (alpha <= UNSURE_TO))
    if rows.size == 0:
        return alpha
    height, width = alpha.shape
    coarse_size = (max(1, width // REDUCTION), max(1, height // REDUCTION))
    window = 2 * max(1, round(radius * max(coarse_size) / RADIUS_GRID_PX)) + 1
    image = _to_unit(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA))
    coarse: Any = cv2.resize(image, coarse_size, interpolation=cv2.INTER_AREA)
    sure = cv2.resize(alpha, coarse_size, interpolation=cv2.INTER_AREA)
    at = (rows * coarse_size[1] // height, columns * coarse_size[0] // width)
    foreground, foreground_spread = _local_colour(coarse, sure > UNSURE_TO, window, at)
    background, background_spread = _local_colour(coarse, sure < UNSURE_FROM, window, at)
    line = foreground - background
    distance = _dot(line, line)
    along = _dot(image[rows, columns] - background, line)
    estimate = np.clip(along / (distance + np.float32(eps)), 0.0, 1.0)
    spread = np.float32(SPREAD_WEIGHT) * (foreground_spread + background_spread)
    trust = distance / (distance + spread + np.float32(eps))
    refined = alpha.copy()
    refined[rows, columns] += trust * (estimate - alpha[rows, columns])
    return refined


def _to_unit(rgb: Any) -> Floats:
    unit: Floats = np.multiply(rgb, np.float32(1 / np.iinfo(rgb.dtype).max), dtype=np.float32)
    return unit


def _local_colour(
    image: Floats, wanted: npt.NDArray[np.bool_], window: int, at: tuple[npt.NDArray[np.intp], ...]
) -> tuple[Floats, Floats]:
    """Return mean (n, 3) and variance (n) of the wanted pixels' colour around the places; inf where there are none."""
    weight = wanted.astype(np.float32)
    weighted = image * weight[:, :, np.newaxis]
    size = (window, window)
    share = cv2.blur(weight, size)[at]
    known = share > LEAST_SHARE
    share = np.where(known, share, 1.0).astype(np.float32)
    mean: Floats = (cv2.blur(weighted, size)[at] / share[:, np.newaxis]).astype(np.float32)
    squares = cv2.blur(cv2.transform(weighted * image, np.ones((1, 3), np.float32)), size)[at] / share
    variance = np.where(known, np.maximum(squares - _dot(mean, mean), 0.0), np.inf).astype(np.float32)
    return mean, variance


def _dot(left: Floats, right: Floats) -> Floats:
    product: Floats = np.einsum("nc,nc->n", left, right)
    return product
