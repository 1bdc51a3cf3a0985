"""Where image-to-3D projects place the object: the integer arithmetic of each project's own preprocessing.

Each rule is a pure function of the object's rectangle, the padding p (crop side = long side * (1 + p), so that the
object's share of the crop is 1 / (1 + p)) and the size of the image that the rule works on. It keeps its project's
quirks: indices of the last pixel taken as far edges, truncation instead of rounding, which side an odd pixel goes to.
Crops are squares in pixels of the image worked on and may reach outside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.framing import object_rect
from cutstream_server.imaging.geometry import CropBox, Size

# A share of 0.85 arrives as the padding 1 / 0.85 - 1, whose rounding error must not turn a side of 20 into 19. A
# side that is no whole number misses one by far more than this: 1 / 17 where the share is 0.85.
WHOLE_TOLERANCE: Final = 1e-6
# TripoSG drops smaller parts before it looks for the object.
SMALLEST_PART_PX: Final = 200


class Rect(NamedTuple):
    """Whole pixels: the first column and row, and how many of each."""

    left: int
    top: int
    width: int
    height: int

    @property
    def sliced(self) -> Rect:
        """What numpy's slice from the first to the last index holds: the last row and column are missing.

        Of a rectangle one pixel wide, which such a slice would empty, that pixel stays.
        """
        return Rect(self.left, self.top, max(1, self.width - 1), max(1, self.height - 1))


class Cut(NamedTuple):
    """What a rule shows of the image: a square, and the only pixels that are not transparent in it (None: all)."""

    crop: CropBox
    visible: Rect | None


Rule: TypeAlias = Callable[[Rect, float, Size], Cut]
"""Object's rectangle, padding p, size of the image -> what is shown."""


def largest_contour(objects: npt.NDArray[np.bool_]) -> Rect:
    """Find the part with the largest outer contour, parts under 200 pixels left out unless there are no others.

    TripoSG fails on an image that has none but such parts; here a small object is one.

    Args:
        objects: (h, w) bool, at least one pixel True. Parts are 8-connected.
    """
    pixels = objects.view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_PART_PX
    large[0] = False
    if large.any():
        pixels = large[labels].view(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    left, top, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return Rect(left, top, width, height)


def whole_object(objects: npt.NDArray[np.bool_]) -> Rect:
    """The rectangle of all object pixels; width and height are 0 when there is none."""
    return Rect(*object_rect(objects))


def crop_as_trellis(rect: Rect, padding: float, _image: Size) -> Cut:
    """TRELLIS: half = int(max(dx, dy) * 1.2) // 2 either side of the middle between first and last index.

    The crop's corners are rounded half to even, as Pillow's `crop` does: both go the same way, so the side stays
    2 * half. An object of one or two pixels, which gives TRELLIS an empty crop, gets a half of 1.
    """
    half = max(1, _padded(max(rect.width, rect.height) - 1, padding) // 2)
    left = round(rect.left + (rect.width - 1) / 2 - half)
    top = round(rect.top + (rect.height - 1) / 2 - half)
    return Cut(_square(left, top, 2 * half), None)


def crop_as_triposr(rect: Rect, padding: float, _image: Size) -> Cut:
    """TripoSR, InstantMesh, SF3D: slice without the last row and column, pad to square, pad to int(side / 0.85).

    An odd pixel of either padding goes to the right and the bottom.
    """
    part = rect.sliced
    inner = max(part.width, part.height)
    side = _padded(inner, padding)
    before = (side - inner) // 2
    left = part.left - (inner - part.width) // 2 - before
    top = part.top - (inner - part.height) // 2 - before
    return Cut(_square(left, top, side), part)


def crop_as_spar3d(rect: Rect, padding: float, _image: Size) -> Cut:
    """SPAR3D: a side of int(max(dx, dy) * 1.3), its corner int(middle - side / 2), which truncates towards zero.

    The middle is between the first and the last index, and the unrounded side is halved. An object of one or two
    pixels, which gives SPAR3D a crop that is empty or beside it, gets a side of 2.
    """
    scale = max(2.0, (max(rect.width, rect.height) - 1) * (1 + padding))
    left = int(rect.left + (rect.width - 1) / 2 - scale / 2)
    top = int(rect.top + (rect.height - 1) / 2 - scale / 2)
    return Cut(_square(left, top, int(scale + WHOLE_TOLERANCE)), None)


def crop_as_recentred(rect: Rect, padding: float, image: Size) -> Cut:
    """Hunyuan3D and LGM: the slice without the last row and column, resized into a square canvas of the image's size.

    On the canvas, whose side is the image's long side, the object's long side is int(side * share); both sides are
    truncated to whole pixels and the object is centred, an odd pixel going to the right and the bottom. Here the whole
    canvas is the crop, in the scale of the object's long side: the projects stretch the short side by the rounding of
    its own length, up to one pixel of the canvas, and the crop, which never distorts, splits that on both ends.
    """
    part = rect.sliced
    canvas = max(image)
    longest = max(part.width, part.height)
    scale = max(1, int(canvas / (1 + padding) + WHOLE_TOLERANCE)) / longest
    width, height = max(1, int(part.width * scale)), max(1, int(part.height * scale))
    pitch = longest / max(width, height)
    left = part.left + part.width / 2 - ((canvas - width) // 2 + width / 2) * pitch
    top = part.top + part.height / 2 - ((canvas - height) // 2 + height / 2) * pitch
    return Cut(_square(left, top, canvas * pitch), part)


def crop_as_triposg(rect: Rect, padding: float, _image: Size) -> Cut:
    """TripoSG: pad int(long side * 0.1) at either end of the long side, and the short side to match.

    Where the sides differ by an odd number TripoSG's picture is a pixel short on the right or at the bottom; here it
    is square.
    """
    longest = max(rect.width, rect.height)
    pad = int(longest * padding / 2 + WHOLE_TOLERANCE)
    left = rect.left - pad - (longest - rect.width) // 2
    top = rect.top - pad - (longest - rect.height) // 2
    return Cut(_square(left, top, longest + 2 * pad), rect)


def crop_as_crm(rect: Rect, padding: float, _image: Size) -> Cut:
    """CRM: the whole box padded to a square, an odd pixel to the right and the bottom."""
    side = _padded(max(rect.width, rect.height), padding)
    return Cut(_square(rect.left - (side - rect.width) // 2, rect.top - (side - rect.height) // 2, side), None)


def _padded(length: int, padding: float) -> int:
    return int(length * (1 + padding) + WHOLE_TOLERANCE)


def _square(left: float, top: float, side: float) -> CropBox:
    return CropBox(float(left), float(top), float(side), float(side))
