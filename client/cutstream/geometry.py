"""Rectangles in pixels of the upright source image: pixel i covers [i, i + 1), x to the right, y down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle in the source."""

    left_px: float
    top_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True)
class CropBox:
    """The part of the source that a cutout shows; it may reach outside the image and has the cutout's aspect.

    The cutout's pixel x shows `left_px + (x + 0.5) * width_px / cutout.width_px` of the source, and likewise for y.
    """

    left_px: float
    top_px: float
    width_px: float
    height_px: float
