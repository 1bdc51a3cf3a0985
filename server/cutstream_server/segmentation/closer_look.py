"""What a second, closer look at the object's window makes of the first look at the whole."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.certainty import agreement, decisiveness
from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.segmentation.window import Window, map_size, resize_alpha

# The two looks are compared on a grid of this side over the window: where their edges differ by a pixel says nothing.
COMPARISON_PX: Final = 256
# Looks that agree in this measure are averaged.
AGREES_FROM: Final = 0.75
# A closer look that contradicts the first one is believed if it is as decisive as this. Of the tuning scenes in which
# they disagreed those were right; the others had lost a part of the object (docs/quality.md).
DECISIVE_FROM: Final = 0.8
# A first look as decisive as this is not given up: where both are sure of different things each has lost a part.
FIRST_KEPT_FROM: Final = 0.85
# In an average a pixel counts by (2 A - 1)^2, how far its look was from one half, and by at least this.
LEAST_WEIGHT: Final = 0.01
# An average of two looks is softer than either: its contrast around one half is raised by this.
CONTRAST: Final = 1.25


def put_back(first: AlphaMap, closer: AlphaMap, window: Window, source: Size) -> tuple[AlphaMap, float]:
    """Put the closer look into the whole image, as far as the first look does not speak against it.

    Args:
        first: (h, w) in 0..1, the prediction for the whole source.
        closer: (h, w) in 0..1, the prediction for the window alone.
        window: the part of the source that `closer` covers.
        source: size of the upright source image.

    Returns:
        Alpha of the whole source on the grid of `map_size`, 0 outside the window: what lies there is not the object.
        And how far the two looks agree in the window, 0..1.
    """
    before = _part_of(first, window, source, Size(closer.shape[1], closer.shape[0]))
    agreed = agreement(_compared(before), _compared(closer))
    both = _steepened(_reconciled(before, closer, agreed))
    return _placed(both, window, source), agreed


def _reconciled(first: AlphaMap, closer: AlphaMap, agreed: float) -> AlphaMap:
    """The average where the looks agree; else the closer one if it alone is decisive, or the higher alpha of both."""
    if agreed >= AGREES_FROM:
        first_weight, closer_weight = _weight(first), _weight(closer)
        average: AlphaMap = (first_weight * first + closer_weight * closer) / (first_weight + closer_weight)
        return average
    if decisiveness(closer) >= DECISIVE_FROM and decisiveness(first) < FIRST_KEPT_FROM:
        return closer
    return np.maximum(first, closer)


def _weight(alpha: AlphaMap) -> AlphaMap:
    weight: AlphaMap = np.square(2 * alpha - 1) + np.float32(LEAST_WEIGHT)
    return weight


def _steepened(alpha: AlphaMap) -> AlphaMap:
    steep: AlphaMap = np.clip(np.float32(CONTRAST) * (alpha - np.float32(0.5)) + np.float32(0.5), 0, 1)
    return steep


def _compared(alpha: AlphaMap) -> AlphaMap:
    return resize_alpha(alpha, COMPARISON_PX, COMPARISON_PX)


def _placed(look: AlphaMap, window: Window, source: Size) -> AlphaMap:
    """Put a look at the window into an empty map of the whole source."""
    grid = map_size(source, window, Size(look.shape[1], look.shape[0]))
    if grid == source:
        alpha = np.zeros((grid.height, grid.width), np.float32)
        window.of(alpha)[:] = resize_alpha(look, *window.size)
        return alpha
    # Of the look's pixels per pixel of the map; about one, so that bilinear interpolation skips nothing.
    step_x = source.width / grid.width * look.shape[1] / window.size.width
    step_y = source.height / grid.height * look.shape[0] / window.size.height
    start_x = 0.5 * step_x - window.left * look.shape[1] / window.size.width - 0.5
    start_y = 0.5 * step_y - window.top * look.shape[0] / window.size.height - 0.5
    return _warped(look, np.array([[step_x, 0, start_x], [0, step_y, start_y]]), grid, cv2.BORDER_CONSTANT)


def _part_of(whole: AlphaMap, window: Window, source: Size, size: Size) -> AlphaMap:
    """Sample the window's part of a map that covers the source at `size`, bilinearly, pixel centres aligned."""
    step_x = (window.right - window.left) * whole.shape[1] / source.width / size.width
    step_y = (window.bottom - window.top) * whole.shape[0] / source.height / size.height
    start_x = window.left * whole.shape[1] / source.width + 0.5 * step_x - 0.5
    start_y = window.top * whole.shape[0] / source.height + 0.5 * step_y - 0.5
    return _warped(whole, np.array([[step_x, 0, start_x], [0, step_y, start_y]]), size, cv2.BORDER_REPLICATE)


def _warped(alpha: AlphaMap, to_alpha: npt.NDArray[np.float64], size: Size, border: int) -> AlphaMap:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(alpha, to_alpha, size, flags=flags, borderMode=border), np.float32)
