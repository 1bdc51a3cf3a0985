"""The part of an alpha map that a cutout needs, brought to source pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from cutstream_server.imaging.framing import foreground_box
from cutstream_server.imaging.geometry import Box, CropBox, Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import sample_map

# Up to here the whole map is enlarged, which OpenCV does in a third of the time that the region alone takes; it is
# 32 MB then.
MAX_WHOLE_PIXELS: Final = 1 << 23


@dataclass(frozen=True)
class AlphaRegion:
    """Alpha in source pixels, float32 (h, w) in 0..1, of the rectangle whose first pixel is (left, top)."""

    alpha: AlphaMap
    left: int
    top: int

    def foreground_box(self, threshold: float) -> Box | None:
        """The box around alpha above the threshold, in pixels of the whole source; None when nothing is above it."""
        rows, columns = self.alpha.shape
        box = foreground_box(self.alpha, threshold, Size(columns, rows))
        if box is None:
            return None
        return Box(box.left + self.left, box.top + self.top, box.right + self.left, box.bottom + self.top)

    def shift(self, crop: CropBox) -> CropBox:
        """The crop in pixels of this rectangle instead of the whole source."""
        return CropBox(crop.left - self.left, crop.top - self.top, crop.width, crop.height)


def sample_region(mask: AlphaMap, source: Size, crop: CropBox, *, margin: float = 0.0) -> AlphaRegion:
    """Brings the part of the map under a crop to source pixels: interpolated, or as it is where it is in them already.

    Args:
        mask: (h, w) in 0..1, covering the whole source.
        source: size of the upright source image.
        crop: the part that is wanted; what reaches outside the image is left out.
        margin: so many map pixels more at each edge, for a crop that will still move a little.
    """
    rows, columns = mask.shape
    margin_x, margin_y = margin * source.width / columns, margin * source.height / rows
    left = min(max(math.floor(crop.left - margin_x), 0), source.width - 1)
    top = min(max(math.floor(crop.top - margin_y), 0), source.height - 1)
    right = max(min(math.ceil(crop.left + crop.width + margin_x), source.width), left + 1)
    bottom = max(min(math.ceil(crop.top + crop.height + margin_y), source.height), top + 1)
    if (columns, rows) == source:
        return AlphaRegion(mask[top:bottom, left:right], left, top)
    enlarges = columns <= source.width and rows <= source.height
    if enlarges and source.width * source.height <= MAX_WHOLE_PIXELS:
        whole = cv2.resize(mask, source, interpolation=cv2.INTER_LINEAR)
        return AlphaRegion(np.asarray(whole[top:bottom, left:right], np.float32), left, top)
    return AlphaRegion(sample_map(mask, source, left, top, right, bottom), left, top)
