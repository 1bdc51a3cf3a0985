"""Where to look closer: the window around the object that a first pass of the network found."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.segmentation.window import Window

# Alpha is looked at on a grid of this side: averaged, so that specks and hairs of a mask do not decide.
GRID_PX: Final = 256
# A pixel belongs to something when it has this share of the map's highest alpha: an unsure first pass, which gives
# the whole object 0.3, still says where it is.
SHARE_OF_PEAK: Final = 0.3
# Below this highest alpha the pass saw nothing.
LEAST_PEAK: Final = 0.05
# A part with less than this share of the largest one's alpha does not widen the window: lamp posts, distractors.
LEAST_PART: Final = 0.2
# The window is the box, widened by this share of its sides at each edge: what the first pass missed of the object has
# to lie in it, and the network needs some background around the object.
MARGIN: Final = 0.25
# The window's sides are moved outwards to the next of so many lines across the image.
LINES: Final = 32


def locate_object(alpha: AlphaMap, source: Size) -> Window | None:
    """Finds the window of the source that a second pass should see.

    Args:
        alpha: (h, w) in 0..1, a prediction that covers the whole source.
        source: size of the upright source image.

    Returns:
        The window in source pixels, inside the image; None when the map shows nothing.
    """
    grid = np.asarray(cv2.resize(alpha, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.float32)
    peak = float(grid.max())
    if peak < LEAST_PEAK:
        return None
    left, top, width, height = _main_parts(grid, SHARE_OF_PEAK * peak)
    across = _widened(left / GRID_PX, (left + width) / GRID_PX, source.width)
    down = _widened(top / GRID_PX, (top + height) / GRID_PX, source.height)
    return Window(across[0], down[0], across[1], down[1])


def _main_parts(grid: AlphaMap, threshold: float) -> tuple[int, int, int, int]:
    """The box around the connected parts that hold much of the alpha."""
    count, labels = cv2.connectedComponents((grid > threshold).view(np.uint8), connectivity=8)
    mass = np.bincount(labels.ravel(), weights=grid.ravel(), minlength=count)
    mass[0] = 0
    kept = mass >= LEAST_PART * mass.max()
    kept[0] = False
    left, top, width, height = cv2.boundingRect(kept[labels].view(np.uint8))
    return left, top, width, height


def _widened(start: float, stop: float, side: int) -> tuple[int, int]:
    """The interval (of the side) with its margins, on the lines outside it, in pixels; at least one pixel."""
    margin = MARGIN * (stop - start)
    first = min(round(max(0, math.floor((start - margin) * LINES)) * side / LINES), side - 1)
    last = round(min(LINES, math.ceil((stop + margin) * LINES)) * side / LINES)
    return first, max(last, first + 1)
