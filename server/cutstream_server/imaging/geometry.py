"""Points, sizes and boxes in upright source pixels: continuous, pixel i covers [i, i+1), far edges exclusive.

An alpha map of h x w pixels covers the whole source image of H x W, whatever its own resolution: map pixel (row i,
column j) covers the source area [j * W/w, (j+1) * W/w) x [i * H/h, (i+1) * H/h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Point(NamedTuple):
    """A place in source pixels; the centre of the first pixel is (0.5, 0.5)."""

    x: float
    y: float


class Size(NamedTuple):
    """Width and height of an upright image in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """A rectangle by its edges, such as the bounding box of an object."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Horizontal extent in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Vertical extent in pixels."""
        return self.bottom - self.top

    @property
    def center(self) -> Point:
        """The middle of the rectangle."""
        return Point((self.left + self.right) / 2, (self.top + self.bottom) / 2)


@dataclass(frozen=True)
class CropBox:
    """What a cutout shows of the source, by corner and size; it may reach outside the image."""

    left: float
    top: float
    width: float
    height: float

    @property
    def center(self) -> Point:
        """The middle of the rectangle."""
        return Point(self.left + self.width / 2, self.top + self.height / 2)
