"""A part of the source that the network sees alone, and how its answer goes back into the whole."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import cv2
import numpy as np

from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import Pixels

# A whole map is as fine as the source up to here, and coarser above: 64 MB of floats.
MAX_MAP_PIXELS: Final = 1 << 24


class Window(NamedTuple):
    """Columns [left, right) and rows [top, bottom) of the source."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, rgb: Pixels) -> Pixels:
        """The pixels inside; a view."""
        return rgb[self.top : self.bottom, self.left : self.right]

    def of_map(self, alpha: AlphaMap) -> AlphaMap:
        """The part of a map whose pixels the window counts; a view."""
        return alpha[self.top : self.bottom, self.left : self.right]

    def scaled(self, source: Size, grid: Size) -> Window:
        """The same part of a grid that covers the source, moved to the nearest of its lines; at least one pixel."""
        left = min(round(self.left * grid.width / source.width), grid.width - 1)
        top = min(round(self.top * grid.height / source.height), grid.height - 1)
        right = max(round(self.right * grid.width / source.width), left + 1)
        bottom = max(round(self.bottom * grid.height / source.height), top + 1)
        return Window(left, top, right, bottom)


def map_size(source: Size) -> Size:
    """The grid on which maps of a window are put back."""
    reduction = max(1, math.ceil(math.sqrt(source.width * source.height / MAX_MAP_PIXELS)))
    return Size(math.ceil(source.width / reduction), math.ceil(source.height / reduction))


def resize_alpha(alpha: AlphaMap, width: int, height: int) -> AlphaMap:
    """Bring a map to another size: averaged where that is smaller on both axes, else interpolated."""
    reduces = width <= alpha.shape[1] and height <= alpha.shape[0]
    interpolation = cv2.INTER_AREA if reduces else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=interpolation), np.float32)
