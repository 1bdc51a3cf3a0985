"""The cutout's size in pixels, and the crop of the source that it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from cutstream_server.errors import OutputTooLargeError
from cutstream_server.imaging.geometry import CropBox, Size

SizeMode = Literal["fixed", "native", "longest_at_most"]

# The largest output sides that may be asked for, 4096 x 4096: native sizes get no more. As float RGBA it is 268 MB.
MAX_OUTPUT_PIXELS: Final = 4096 * 4096
# A crop side this near to a whole number is meant to be one.
WHOLE_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class Layout:
    """A cutout of `size` pixels that shows `crop`; both have the same aspect."""

    crop: CropBox
    size: Size


def lay_out(crop: CropBox, wanted: Size, mode: SizeMode) -> Layout:
    """Finds the cutout's size, and moves the crop to whole pixels where the size asks for that.

    Args:
        crop: what is to be seen, with the aspect of `wanted`.
        wanted: the output size asked for.
        mode: "fixed" gives that size; "native" one output pixel for each source pixel, the crop rounded outwards to
            whole pixels; "longest_at_most" the same, reduced until the long side is at most that of `wanted`.

    Raises:
        OutputTooLargeError: when the cutout would have more than `MAX_OUTPUT_PIXELS`.
    """
    if mode == "fixed":
        return Layout(crop, wanted)
    native = _whole_pixels(crop)
    longest, limit = max(native.size), max(wanted)
    if mode == "longest_at_most" and longest > limit:
        return _reduced(native.crop, limit / longest)
    pixels = native.size.width * native.size.height
    if pixels > MAX_OUTPUT_PIXELS:
        raise OutputTooLargeError(
            f"at source resolution the cutout would have {native.size.width} x {native.size.height} pixels; "
            "set an output size, or size_mode longest_at_most",
            limit=MAX_OUTPUT_PIXELS,
            measured=pixels,
            unit="pixels",
        )
    return native


def _whole_pixels(crop: CropBox) -> Layout:
    """Rounds a crop outwards to whole source pixels, its middle kept to half a pixel: nothing is then resampled."""
    width = math.ceil(crop.width - WHOLE_TOLERANCE)
    height = math.ceil(crop.height - WHOLE_TOLERANCE)
    left = round(crop.center.x - width / 2)
    top = round(crop.center.y - height / 2)
    return Layout(CropBox(float(left), float(top), float(width), float(height)), Size(width, height))


def _reduced(crop: CropBox, scale: float) -> Layout:
    """Reduces to a whole number of output pixels; the short side grows by what its rounding needs for the aspect."""
    width, height = max(1, round(crop.width * scale)), max(1, round(crop.height * scale))
    if crop.width >= crop.height:
        grown = replace(crop, height=crop.width * height / width)
        return Layout(replace(grown, top=crop.center.y - grown.height / 2), Size(width, height))
    grown = replace(crop, width=crop.height * width / height)
    return Layout(replace(grown, left=crop.center.x - grown.width / 2), Size(width, height))
