"""The errors of alpha mattes that the literature reports: SAD, MSE, Grad and Conn.

Grad and Conn after C. Rhemann, C. Rother, J. Wang, M. Gelautz, P. Kohli, P. Rott, "A Perceptually Motivated Online
Benchmark for Image Matting", CVPR 2009, with the constants of its published scripts, over the whole frame (there is no
trimap here). tests/benchmarks compare them with second implementations.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# As in the literature, sums are given in thousands.
THOUSAND: Final = 1000.0
GRADIENT_SIGMA: Final = 1.4
# The kernel ends where the Gaussian falls below this.
GRADIENT_CUT: Final = 1e-2
CONNECTIVITY_STEP: Final = 0.1
CONNECTIVITY_TOLERANCE: Final = 0.15


def sum_of_differences(alpha: Floats, truth: Floats) -> float:
    """SAD: sum of |alpha - truth|, in thousands."""
    return float(np.abs(alpha - truth).sum(dtype=np.float64)) / THOUSAND


def mean_squared_error(alpha: Floats, truth: Floats) -> float:
    """MSE: mean of (alpha - truth)^2."""
    return float(np.square(alpha - truth).mean(dtype=np.float64))


def gradient_error(alpha: Floats, truth: Floats) -> float:
    """Grad: sum of squared differences of the gradients' magnitudes, in thousands.

    Gradients are those of first-order Gaussian derivatives with sigma 1.4, normalised to an L2 norm of 1, borders
    replicated.
    """
    difference = _gradient(alpha) - _gradient(truth)
    return float(np.square(difference).sum(dtype=np.float64)) / THOUSAND


def connectivity_error(alpha: Floats, truth: Floats) -> float:
    """Conn: sum of |phi(alpha) - phi(truth)|, in thousands.

    For each pixel, l is the highest of the levels 0, 0.1 ... 1 at which it still belongs to the largest 4-connected
    region of pixels where alpha and truth both reach the level. d = alpha - l counts as disconnected from 0.15 on:
    phi = 1 - d if d >= 0.15, else 1.
    """
    both = np.minimum(alpha, truth)
    connected_to = np.zeros(alpha.shape, np.float32)
    open_pixels = np.ones(alpha.shape, np.bool_)
    steps = round(1 / CONNECTIVITY_STEP)
    for step in range(1, steps + 1):
        level = step * CONNECTIVITY_STEP
        inside = _largest_region(both >= np.float32(level))
        leaves = open_pixels & ~inside
        connected_to[leaves] = level - CONNECTIVITY_STEP
        open_pixels &= inside
    connected_to[open_pixels] = 1.0
    return float(np.abs(_phi(alpha, connected_to) - _phi(truth, connected_to)).sum(dtype=np.float64)) / THOUSAND


def _phi(alpha: Floats, connected_to: Floats) -> Floats:
    distance = alpha - connected_to
    return 1 - distance * (distance >= CONNECTIVITY_TOLERANCE)


def _largest_region(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.view(np.uint8), connectivity=4)
    if count == 1:
        return np.zeros(pixels.shape, np.bool_)
    largest: npt.NDArray[np.bool_] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest


def _gradient(alpha: Floats) -> npt.NDArray[np.float64]:
    """Magnitude of the gradient by separable Gaussian derivatives."""
    sigma = GRADIENT_SIGMA
    half = int(np.ceil(sigma * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * sigma * GRADIENT_CUT))))
    at = np.arange(-half, half + 1, dtype=np.float64)
    smooth = np.exp(-(at**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    derivative = -at * smooth / sigma**2
    norm = np.sqrt(np.square(np.outer(smooth, derivative)).sum())
    plane = alpha.astype(np.float64)
    border = cv2.BORDER_REPLICATE
    across = cv2.sepFilter2D(plane, cv2.CV_64F, derivative / norm, smooth, borderType=border)
    down = cv2.sepFilter2D(plane, cv2.CV_64F, smooth / norm, derivative, borderType=border)
    return np.hypot(across, down)
