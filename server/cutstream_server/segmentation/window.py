"""A part of the source that the network sees alone, and how its answer goes back into the whole."""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeVar

import cv2
import numpy as np

from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import Pixels

# No map is larger than this: 64 MB of floats.
MAX_MAP_PIXELS: Final = 1 << 24


_Plane = TypeVar("_Plane", Pixels, AlphaMap)


class Window(NamedTuple):
    """Columns [left, right) and rows [top, bottom) of the source."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, pixels: _Plane) -> _Plane:
        """The pixels inside, of colours or of a map as large as the source; a view."""
        return pixels[self.top : self.bottom, self.left : self.right]

    @property
    def size(self) -> Size:
        """Width and height."""
        return Size(self.right - self.left, self.bottom - self.top)


def map_size(source: Size, window: Window, look: Size) -> Size:
    """The grid on which a look at a window is put back: as fine as the look, but no finer than the source."""
    finest = max(1.0, min(window.size.width / look.width, window.size.height / look.height))
    reduction = max(finest, math.sqrt(source.width * source.height / MAX_MAP_PIXELS))
    return Size(math.ceil(source.width / reduction), math.ceil(source.height / reduction))


def resize_alpha(alpha: AlphaMap, width: int, height: int) -> AlphaMap:
    """Bring a map to another size: averaged where that is smaller on both axes, else interpolated."""
    reduces = width <= alpha.shape[1] and height <= alpha.shape[0]
    interpolation = cv2.INTER_AREA if reduces else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=interpolation), np.float32)
