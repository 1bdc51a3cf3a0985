"""The first pipeline, as it was described, for comparison; its faults are kept.

The picture is squashed to the network's square and stays so; the mask has 8 bits; the box is taken where it is above
0.8; the crop is the box's long side (in squashed pixels) and a fifth more, in whole pixels around its middle; the
premultiplied crop is resized to 518 x 518 by bilinear interpolation without antialiasing, and its colours keep what
they had of the background.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.frame import Result, nothing_found

from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.resample import to_network_input

SQUARE_PX: Final = 1024
BOX_ABOVE: Final = 0.8 * 255
PADDING: Final = 0.2
OUTPUT_PX: Final = 518


def squash(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Stretch the picture to the network's square, (1024, 1024, 3): what the network sees and what is cut out.

    By the service's own antialiased resampling, so that both see the same and only what comes after differs.
    """
    return np.ascontiguousarray(to_network_input(rgb, SQUARE_PX, SQUARE_PX)[0].transpose(1, 2, 0))


def cut_out(square: npt.NDArray[np.uint8], mask: npt.NDArray[np.float32], source: Size) -> Result:
    """Cut the object out of the squashed picture.

    Args:
        square: what `squash` gave.
        mask: (1024, 1024) in 0..1, the network's answer to it.
        source: size of the picture before.

    Returns:
        The cutout, or an empty one when nothing is above 0.8: the first pipeline failed then.
    """
    alpha = (mask * 255).astype(np.uint8)
    rows, columns = np.nonzero(alpha > BOX_ABOVE)
    if rows.size == 0:
        return nothing_found(*source)
    left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
    half = int(max(right - left, bottom - top) * (1 + PADDING)) // 2
    if half == 0:
        return nothing_found(*source)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    padded = cv2.copyMakeBorder(np.dstack([square, alpha]), half, half, half, half, cv2.BORDER_CONSTANT)
    crop = padded[middle_y : middle_y + 2 * half, middle_x : middle_x + 2 * half]
    premultiplied = (crop[..., :3] * (crop[..., 3:] / 255)).astype(np.uint8)
    planes = cv2.resize(
        np.dstack([premultiplied, crop[..., 3]]), (OUTPUT_PX, OUTPUT_PX), interpolation=cv2.INTER_LINEAR
    )
    straight = np.minimum(planes[..., :3] / np.maximum(planes[..., 3:] / 255, 1 / 255), 255)
    shown = CropBox(
        (middle_x - half) * source.width / SQUARE_PX,
        (middle_y - half) * source.height / SQUARE_PX,
        2 * half * source.width / SQUARE_PX,
        2 * half * source.height / SQUARE_PX,
    )
    return Result(np.dstack([np.rint(straight).astype(np.uint8), planes[..., 3]]), shown)
