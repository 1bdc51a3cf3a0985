"""Where the cutout looks: the object's box on the alpha map, and the crop around it with the output's aspect."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.geometry import Box, CropBox, Point, Size
from cutstream_server.imaging.mask import AlphaMap, object_pixels

# Of the padding p of the long side, half lies at either end when the box is in the middle: a quarter at every edge
# lets the centre of mass move the box by half of that.
SMART_MARGIN_SHARE: Final = 0.25
# From here on a box is elongated: its short side is small against the crop and may move far off the middle.
ELONGATED_RATIO: Final = 1.5


def object_rect(objects: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the bounding box of the True pixels; all 0 when there is none."""
    left, top, width, height = cv2.boundingRect(objects.view(np.uint8))
    return left, top, width, height


def foreground_box(alpha: AlphaMap, threshold: float, source: Size) -> Box | None:
    """The smallest box that holds every map pixel above the threshold whole.

    Args:
        alpha: (h, w) in 0..1, covering the whole source.
        threshold: object pixels are strictly above it.
        source: size of the upright source image.

    Returns:
        The box in source pixels, or None when no pixel is above the threshold. A map that is enlarged later by an
        interpolating filter exceeds the threshold up to half a map pixel outside this box: take the box from the
        map that is composed.
    """
    left, top, width, height = object_rect(object_pixels(alpha, threshold))
    if width == 0:
        return None
    rows, columns = alpha.shape
    return Box(
        left=left * source.width / columns,
        top=top * source.height / rows,
        right=(left + width) * source.width / columns,
        bottom=(top + height) * source.height / rows,
    )


def centre_of_mass(alpha: AlphaMap, threshold: float, source: Size) -> Point | None:
    """The mean place of the object pixels, each weighted with its alpha, in source pixels.

    Returns:
        None when no pixel is above the threshold. Arguments as for `foreground_box`.
    """
    objects = object_pixels(alpha, threshold)
    left, top, width, height = object_rect(objects)
    if width == 0:
        return None
    inside = np.s_[top : top + height, left : left + width]
    weights = alpha[inside] * objects[inside]
    by_column = cv2.reduce(weights, 0, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[0]
    by_row = cv2.reduce(weights, 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[:, 0]
    mass = float(by_column.sum())
    column = float(by_column @ (np.arange(width) + left + 0.5)) / mass
    row = float(by_row @ (np.arange(height) + top + 0.5)) / mass
    rows, columns = alpha.shape
    return Point(column * source.width / columns, row * source.height / rows)


def crop_box(
    box: Box, centre: Point, *, padding: float, smart: bool, adaptive_factor: float, aspect: float = 1.0
) -> CropBox:
    """The crop around an object's box: sized by its padding, placed by its box or by its centre of mass.

    Size. The crop is the smallest one of the output's aspect in which the box takes at most 1 / (1 + p) of either
    axis; along one axis, the binding one, it takes exactly that. For a square output this is the long side times
    (1 + p). With `smart`, a box with long / short > 1.5 gets the padding p * `adaptive_factor` on its short side: in a
    wide or tall output, where the short side may be the binding one, that makes a larger crop; a square never changes.

    Place. Plain, the crop is centred on the box. Smart, it is centred on the centre of mass, then shifted by the
    least that leaves a margin of p / 4 of the long side at every edge of the box, on the short axis of an elongated
    box (long / short > 1.5) times `adaptive_factor`. An axis without room for both margins is centred on the box.
    The crop never grows for the margins, and it always holds the whole box.

    For a square output, p = 0.2 and a factor of 1.5 (box w x h at the origin, centre of mass -> crop):

    ======  ========  ==============  ==========  ==================================================================
    object  box       centre of mass  crop side   place
    ======  ========  ==============  ==========  ==================================================================
    sword   20 x 100  (10, 70)        120         left -50: centred on x; top -5: 10 wanted, margin of 5 kept on top
    hammer  60 x 100  (30, 25)        120         left -30; top -15: -35 wanted, margin of 5 kept at the bottom
    ball    100 x 100 (50, 50)        120         left -10, top -10: as plain
    ======  ========  ==============  ==========  ==================================================================

    Args:
        box: the object's box in source pixels, not empty.
        centre: the object's centre of mass; without `smart` it does not matter.
        padding: p, at least 0, a fraction of the long side, shared by both ends.
        smart: USE_SMART_PADDING.
        adaptive_factor: ADAPTIVE_PADDING_FACTOR, at least 1.
        aspect: output width / output height.

    Returns:
        The crop in source pixels; its width / height is `aspect`. It may reach outside the image.
    """
    long_side = max(box.width, box.height)
    margin_x = margin_y = SMART_MARGIN_SHARE * padding * long_side
    padding_x = padding_y = padding
    if smart and long_side > ELONGATED_RATIO * box.width:
        margin_x *= adaptive_factor
        padding_x *= adaptive_factor
    elif smart and long_side > ELONGATED_RATIO * box.height:
        margin_y *= adaptive_factor
        padding_y *= adaptive_factor

    if aspect == 1.0:
        width = height = long_side * (1 + padding)
    else:
        width, height = _around(box.width * (1 + padding_x), box.height * (1 + padding_y), aspect)
    middle = box.center
    left, top = middle.x - width / 2, middle.y - height / 2
    if smart:
        left = _nearest_start(centre.x - width / 2, left, box.left - margin_x, box.right + margin_x - width)
        top = _nearest_start(centre.y - height / 2, top, box.top - margin_y, box.bottom + margin_y - height)
    return CropBox(left, top, width, height)


def full_frame(source: Size, aspect: float | None = None) -> CropBox:
    """The crop that shows the whole image: itself, or the smallest centred one around it of the given aspect."""
    if aspect is None:
        return CropBox(0.0, 0.0, float(source.width), float(source.height))
    width, height = _around(source.width, source.height, aspect)
    return CropBox((source.width - width) / 2, (source.height - height) / 2, width, height)


def _around(width: float, height: float, aspect: float) -> tuple[float, float]:
    """The smallest width and height of the aspect that hold the given ones; the binding one stays exact."""
    if width >= height * aspect:
        return width, width / aspect
    return height * aspect, height


def _nearest_start(wanted: float, centred: float, latest: float, earliest: float) -> float:
    """The crop's start nearest to `wanted` from `earliest` to `latest`; `centred` when the range is empty."""
    if earliest > latest:
        return centred
    return min(max(wanted, earliest), latest)
