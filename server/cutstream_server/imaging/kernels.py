"""Interpolation kernels as sparse matrices: one CSR matrix an axis, row i holding the weights that make output pixel i.

Kernels and edges are Pillow's: weights are taken at pixel centres, cut where the crop ends, and normalised to a sum
of one (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters). With `antialias` a kernel is widened by
the factor of reduction; without it its width stays that of the source pixel grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

# The network's input is computed in integers: weights of 8 bits keep 255 * 256 inside uint16, which takes half the time
# of float32 and errs by less than a rounding step.
WEIGHT_BITS: Final = 8
# A crop edge this near to a pixel edge is on it; else a rounding error of the framing would let in one more pixel.
EDGE_TOLERANCE: Final = 1e-6
LANCZOS_LOBES: Final = 3


@dataclass(frozen=True)
class Kernel:
    """An interpolation kernel: its weight at a distance in pixels, and the distance from which it is zero."""

    weight: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    support: float


def _triangle(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weigh by R. Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))  # noqa: PLR2004 - the pieces' own bounds


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < LANCZOS_LOBES, np.sinc(x) * np.sinc(x / LANCZOS_LOBES), 0.0)


KERNELS: Final = {
    "bilinear": Kernel(_triangle, 1),
    "bicubic": Kernel(_cubic, 2),
    "lanczos": Kernel(_lanczos, LANCZOS_LOBES),
}


@dataclass(frozen=True)
class Axis:
    """One axis of a resampling: `count` output pixels over [start, start + extent); taps from pixels [low, high)."""

    start: float
    extent: float
    count: int
    low: int
    high: int

    @property
    def scale(self) -> float:
        """Source pixels an output pixel."""
        return self.extent / self.count

    def centres(self) -> npt.NDArray[np.float64]:
        """Where the centres of the output pixels lie, in source pixels."""
        return self.start + (np.arange(self.count, dtype=np.float64) + 0.5) * self.scale


def whole_axis(source: int, count: int) -> Axis:
    """Return the axis that resamples all of `source` pixels to `count`."""
    return Axis(0.0, float(source), count, 0, source)


def touched_pixels(start: float, extent: float) -> tuple[int, int]:
    """Return the first pixel that the interval touches and the one after its last."""
    return math.floor(start + EDGE_TOLERANCE), math.ceil(start + extent - EDGE_TOLERANCE)


def kernel_matrix(
    axis: Axis, kernel: Kernel, *, antialias: bool, first: int | None = None, last: int | None = None
) -> csr_array:
    """Return the (count, last - first) float32 weights of one axis.

    Pixels of the axis outside [first, last), by default none, are known to be zero: they count in the normalisation
    and have no column.
    """
    stretch = max(axis.scale, 1.0) if antialias else 1.0
    centres = axis.centres()
    reach = kernel.support * stretch
    low = np.maximum(np.floor(centres - reach + 0.5).astype(np.int32), axis.low)
    high = np.minimum(np.floor(centres + reach + 0.5).astype(np.int32), axis.high)
    pixels = low[:, np.newaxis] + np.arange((high - low).max(), dtype=np.int32)
    weights = kernel.weight((pixels + 0.5 - centres[:, np.newaxis]) / stretch)
    used = pixels < high[:, np.newaxis]
    weights[~used] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    first, last = axis.low if first is None else first, axis.high if last is None else last
    used &= (pixels >= first) & (pixels < last)
    return _sparse(weights, pixels - first, used, last - first)


def area_matrix(source: int, count: int) -> csr_array:
    """Return the (count, source) float32 shares of each source pixel in each output pixel's area."""
    edges = np.arange(count + 1) * (source / count)
    edges[-1] = source
    low = np.floor(edges[:-1]).astype(np.int32)
    high = np.minimum(np.ceil(edges[1:]).astype(np.int32), source)
    pixels = low[:, np.newaxis] + np.arange((high - low).max(), dtype=np.int32)
    covered = np.minimum(pixels + 1, edges[1:, np.newaxis]) - np.maximum(pixels, edges[:-1, np.newaxis])
    used = (covered > 0) & (pixels < source)
    return _sparse(covered * (count / source), pixels, used, source)


def _sparse(
    weights: npt.NDArray[np.float64], columns: npt.NDArray[np.int32], used: npt.NDArray[np.bool_], width: int
) -> csr_array:
    ends = np.concatenate(([0], np.cumsum(used.sum(axis=1)))).astype(np.int32)
    return csr_array((weights[used].astype(np.float32), columns[used], ends), shape=(len(weights), width))


def integer_weights(matrix: csr_array) -> csr_array:
    """Return the matrix with weights times 2^WEIGHT_BITS as uint16, each row's sum exact.

    Running sums are rounded rather than weights, so that the many small weights of a strong reduction do not drift.
    """
    running = np.concatenate(([0.0], np.cumsum(matrix.data, dtype=np.float64)))
    weights = np.diff(np.rint(running * (1 << WEIGHT_BITS))).astype(np.uint16)
    return csr_array((weights, matrix.indices, matrix.indptr), shape=matrix.shape)
