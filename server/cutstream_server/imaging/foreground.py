"""Foreground colours: what the object alone looks like where it is mixed with its background.

A soft pixel shows I = alpha * F + (1 - alpha) * B. A cutout that keeps I carries the old background's colour on its
edges; one with F can be laid over anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.geometry import CropBox
from cutstream_server.imaging.resample import Floats, Interpolation, Pixels, resample_alpha, resample_premultiplied

# Window sizes, coarse to fine: blocks of so many pixels, 3 x 3 of them a window. Each level starts from the one before.
# The widest reaches about 48 pixels, across any hair or blur; only the finest follows a coloured edge.
BLOCKS_PX: Final = (32, 8, 2, 1)
WINDOW_BLOCKS: Final = (3, 3)
# How much a level trusts the coarser one: a constant for windows in which alpha hardly varies, so that they say little,
# and a share of the error that the coarser colours leave, for windows in which a wrong alpha explains nothing.
# Larger values leave old background in blurred strands, smaller ones colour the edges of wrong masks.
PRIOR_WEIGHT: Final = 1e-3
PRIOR_WEIGHT_PER_ERROR: Final = 1.0
# Large pictures are done in tiles, for memory. What is further away than REACH_PX influences no pixel (3 blocks of the
# coarsest level and less for each finer one), so that tiles meet without a seam. Both are multiples of BLOCKS_PX[0].
TILE_PX: Final = 1024
REACH_PX: Final = 128
# Planes of a moment array: sums over a window of weight * (a, a^2, I, aI, |I|^2, 1), colours as three planes.
_A, _AA, _I, _AI, _II, _ONE = 0, 1, slice(2, 5), slice(5, 8), 8, 9
_PLANES: Final = 10


def compose_foreground(
    rgb: Pixels,
    alpha: Floats,
    crop: CropBox,
    width: int,
    height: int,
    *,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> tuple[Floats, Floats]:
    """Cut out and resample as `resample_premultiplied` does, with the object's own colour on soft pixels.

    The colours are estimated at the output's resolution, from the plain average of the source's colours: if every
    source pixel obeys I = alpha * F + (1 - alpha) * B, so does every plain average of them, with the averaged alpha.
    An average weighted with alpha does not: it holds less background than its alpha says.

    Args and returns: as `resample_premultiplied`; alpha is the same to the bit.
    """
    out_alpha = resample_alpha(alpha, crop, width, height, interpolation=interpolation, antialias=antialias)
    everything = np.ones(alpha.shape, np.float32)
    observed, inside = resample_premultiplied(
        rgb, everything, crop, width, height, interpolation=interpolation, antialias=antialias
    )
    # `observed` averages what lies inside the image, so its alpha must do the same; outside there is no background.
    share = np.divide(out_alpha, inside, out=np.zeros_like(out_alpha), where=inside > 0)
    colour = estimate_foreground(observed, np.minimum(share, 1.0), inside)
    return np.asarray(cv2.copyTo(colour, (out_alpha > 0).view(np.uint8)), np.float32), out_alpha


def estimate_foreground(rgb: Floats, alpha: Floats, weight: Floats | None = None) -> Floats:
    """Estimate the object's colour F on soft pixels (0 < alpha < 1) of an observed picture.

    The sum of (I - alpha * F - (1 - alpha) * B)^2, the data term of the multi-level method of Germer et al., is
    minimised over F and B in square windows, a closed form with box sums as in the guided filter of He et al. Windows
    shrink in four steps, and the solution of each is drawn to that of the one before; the first to the local means of
    object and background. At last F and B are moved by the least that makes the pixel's own equation true. Measured
    against both published methods in docs/quality.md.

    Args:
        rgb: (h, w, 3) float32 in 0..1, observed colours; plainly averaged, see `compose_foreground`.
        alpha: (h, w) float32 in 0..1.
        weight: (h, w) float32 in 0..1, how much of each pixel lies inside the image; None is 1 everywhere.

    Returns:
        (h, w, 3) float32 in 0..1; pixels with alpha 0 or 1 are `rgb`.

    Sources: T. Germer, T. Uelwer, S. Conrad, S. Harmeling, "Fast Multi-Level Foreground Estimation", ICPR 2020;
    K. He, J. Sun, X. Tang, "Guided Image Filtering", IEEE TPAMI 35 (2013); windows that shrink: M. Forte, F. Pitié,
    "Approximate Fast Foreground Colour Estimation", ICIP 2021.
    """
    out = rgb.copy()
    soft = (alpha > 0) & (alpha < 1)
    weight = np.ones_like(alpha) if weight is None else weight
    for inner, outer in _tiles(*alpha.shape):
        here = np.zeros(alpha[outer].shape, np.bool_)
        here[_within(inner, outer)] = soft[inner]
        if here.any():
            out[outer][here] = _estimate_tile(rgb[outer], alpha[outer], weight[outer], here)
    return out


_Block = tuple[slice, slice]
_Plane = TypeVar("_Plane", Floats, npt.NDArray[np.uint8])


def _tiles(height: int, width: int) -> Iterator[tuple[_Block, _Block]]:
    """Yield the tiles of a picture: the part that is estimated, and with it all that it depends on."""
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            bottom, right = min(top + TILE_PX, height), min(left + TILE_PX, width)
            outer_rows = slice(max(top - REACH_PX, 0), min(bottom + REACH_PX, height))
            outer_columns = slice(max(left - REACH_PX, 0), min(right + REACH_PX, width))
            yield np.s_[top:bottom, left:right], (outer_rows, outer_columns)


def _within(inner: _Block, outer: _Block) -> _Block:
    """Return `inner` counted from the first pixel of `outer`."""
    rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return rows, columns


def _estimate_tile(rgb: Floats, alpha: Floats, weight: Floats, soft: npt.NDArray[np.bool_]) -> Floats:
    """Return F of the soft pixels, as (n, 3)."""
    pyramid = _pyramid(_moments(*(_pad(plane) for plane in (rgb, alpha, weight))))
    windows = _window_means(pyramid[BLOCKS_PX[0]])
    colours = _local_means(windows)
    for size in BLOCKS_PX[:-1]:
        windows = _window_means(pyramid[size])
        colours = _solve(windows, _resize(colours, windows.shape[1:], cv2.INTER_LINEAR))
    # The finest level is solved where it is wanted only.
    windows = _window_means(pyramid[1])
    wanted = np.flatnonzero(_pad(soft.view(np.uint8)))
    colours = _resize(colours, windows.shape[1:], cv2.INTER_LINEAR)
    colours = _solve(_pick(windows, wanted), _pick(colours, wanted))
    return _satisfy(colours, rgb[soft].T, alpha[soft]).T


def _pick(planes: Floats, pixels: npt.NDArray[np.intp]) -> Floats:
    """Return pixels, numbered row by row, of each plane: (n, len(pixels))."""
    return np.take(planes.reshape(len(planes), -1), pixels, axis=1)


def _pad(plane: _Plane) -> _Plane:
    """Fill up to whole blocks of the coarsest level, with weight and alpha of zero."""
    rows, columns = plane.shape[:2]
    bottom, right = -rows % BLOCKS_PX[0], -columns % BLOCKS_PX[0]
    padded = cv2.copyMakeBorder(plane, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(padded, plane.dtype)


def _moments(rgb: Floats, alpha: Floats, weight: Floats) -> Floats:
    """Return the moments (10, h, w) of single pixels."""
    moments = np.empty((_PLANES, *alpha.shape), np.float32)
    moments[_ONE] = weight
    np.multiply(weight, alpha, out=moments[_A])
    np.multiply(moments[_A], alpha, out=moments[_AA])
    moments[_II] = 0
    for channel, plain, mixed in zip(cv2.split(rgb), moments[_I], moments[_AI], strict=True):
        np.multiply(weight, channel, out=plain)
        np.multiply(moments[_A], channel, out=mixed)
        cv2.accumulateProduct(plain, channel, moments[_II])
    return moments


def _pyramid(moments: Floats) -> dict[int, Floats]:
    """Return the mean moments of square blocks, by the block's side: 1, 2, 4 ... pixels."""
    levels = {1: moments}
    size = 1
    while size < BLOCKS_PX[0]:
        finer = levels[size]
        size *= 2
        levels[size] = _resize(finer, (finer.shape[1] // 2, finer.shape[2] // 2), cv2.INTER_AREA)
    return levels


def _window_means(moments: Floats) -> Floats:
    means = np.empty_like(moments)
    for plane, mean in zip(moments, means, strict=True):
        cv2.blur(plane, WINDOW_BLOCKS, dst=mean, borderType=cv2.BORDER_REPLICATE)
    return means


def _resize(planes: Floats, shape: tuple[int, ...], interpolation: int) -> Floats:
    resized = np.empty((len(planes), *shape), np.float32)
    for plane, target in zip(planes, resized, strict=True):
        cv2.resize(plane, shape[::-1], dst=target, interpolation=interpolation)
    return resized


def _local_means(windows: Floats) -> Floats:
    """Return the mean colours of object and background, (6, ...): F in the first three planes, B in the others."""
    foreground = windows[_AI] / (windows[_A] + np.float32(PRIOR_WEIGHT))
    background = (windows[_I] - windows[_AI]) / (windows[_ONE] - windows[_A] + np.float32(PRIOR_WEIGHT))
    return np.concatenate([foreground, background])


def _solve(windows: Floats, prior: Floats) -> Floats:
    """Return F and B (6, ...) that explain each window best, drawn to the prior (6, ...).

    They solve [aa + e, ab; ab, bb + e] [F; B] = [aI + e F'; bI + e B'] with b = 1 - a, sums over the window, and
    e the weight of the prior F', B'.
    """
    foreground, background = prior[:3], prior[3:]
    aa, ai = windows[_AA], windows[_AI]
    ab = windows[_A] - aa
    bb = windows[_ONE] - windows[_A] - ab
    bi = windows[_I] - ai
    error = windows[_II] + np.sum(
        foreground * (aa * foreground + 2 * (ab * background - ai)) + background * (bb * background - 2 * bi), axis=0
    )
    trust = PRIOR_WEIGHT + PRIOR_WEIGHT_PER_ERROR * np.maximum(error, 0)
    aa = aa + trust
    bb = bb + trust
    ai = ai + trust * foreground
    bi = bi + trust * background
    solution: Floats = np.concatenate([bb * ai - ab * bi, aa * bi - ab * ai])
    solution /= aa * bb - ab * ab
    return np.clip(solution, 0.0, 1.0, out=solution)


def _satisfy(colours: Floats, observed: Floats, alpha: Floats) -> Floats:
    """Return F of (F, B) moved by the least, in the sum of squares, that makes I = alpha F + (1 - alpha) B true."""
    rest = 1 - alpha
    missing = observed - alpha * colours[:3] - rest * colours[3:]
    moved: Floats = colours[:3] + alpha / (alpha * alpha + rest * rest) * missing
    return np.clip(moved, 0.0, 1.0, out=moved)
