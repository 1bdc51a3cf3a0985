"""The one frame in which all pipelines are compared: the truth's box plus 20 percent, 518 x 518.

A result is brought there through the crop that it says it shows, and what lies outside that crop counts as transparent:
else loose framing would win. The resampling is OpenCV's, so that no pipeline is judged by its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.scenes import Scene

from cutstream_server.imaging.geometry import CropBox

SIDE_PX: Final = 518
PADDING: Final = 0.2
# An object ends where its alpha falls below half of its own most: glass has no pixel above 0.5.
PEAK_PERCENTILE: Final = 99.0
VISIBLE: Final = 0.05

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """What a pipeline made of one image.

    Attributes:
        rgba: (h, w, 4) uint8, straight colour; one transparent pixel when the pipeline found nothing.
        crop: the part of the source that it shows.
        seconds: from bytes to cutout; None where that was not measured.
        confidence: the pipeline's own, 0..1; None where it has none.
    """

    rgba: npt.NDArray[np.uint8]
    crop: CropBox
    seconds: float | None = None
    confidence: float | None = None


def nothing_found(width: int, height: int) -> Result:
    """The result of a pipeline that found no object in a picture of this size."""
    return Result(np.zeros((1, 1, 4), np.uint8), CropBox(0, 0, width, height))


@dataclass(frozen=True)
class Framed:
    """A cutout in the common frame: premultiplied colour (518, 518, 3) and alpha (518, 518), float32 in 0..1."""

    premultiplied: Floats
    alpha: Floats

    @property
    def colour(self) -> Floats:
        """Straight colour; 0 where nothing can be seen."""
        return self.premultiplied / np.maximum(self.alpha, 1e-6)[..., np.newaxis]


def object_level(alpha: Floats) -> float:
    """The alpha above which a pixel of the truth is object: half of what the object reaches."""
    visible = alpha[alpha > VISIBLE]
    return 0.5 * float(np.percentile(visible, PEAK_PERCENTILE)) if visible.size else 0.5


def true_box(scene: Scene) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the object in source pixels."""
    left, top, width, height = cv2.boundingRect((scene.alpha > object_level(scene.alpha)).astype(np.uint8))
    return left, top, left + width, top + height


def common_frame(scene: Scene) -> CropBox:
    """The square around the truth's box that all pipelines are compared in."""
    left, top, right, bottom = true_box(scene)
    side = max(right - left, bottom - top) * (1 + PADDING)
    return CropBox((left + right - side) / 2, (top + bottom - side) / 2, side, side)


def frame_truth(scene: Scene) -> Framed:
    """The truth in the common frame."""
    planes = np.dstack([scene.foreground * scene.alpha[..., np.newaxis], scene.alpha])
    height, width = scene.alpha.shape
    return _sample(planes, CropBox(0, 0, width, height), common_frame(scene))


def frame_result(result: Result, scene: Scene) -> Framed:
    """A pipeline's result in the common frame."""
    planes = result.rgba.astype(np.float32) / 255
    planes[..., :3] *= planes[..., 3:]
    return _sample(planes, result.crop, common_frame(scene))


def _sample(planes: Floats, shown: CropBox, frame: CropBox) -> Framed:
    """Samples (h, w, 4) that show one part of the source in another one: bilinear on a finer grid, then averaged."""
    rows, columns = planes.shape[:2]
    # Enough samples that no pixel of the result is skipped.
    finer = max(1, math.ceil(frame.width / SIDE_PX * max(columns / shown.width, rows / shown.height)))
    side = SIDE_PX * finer
    step_x, step_y = frame.width / side * columns / shown.width, frame.height / side * rows / shown.height
    start_x = (frame.left - shown.left) * columns / shown.width
    start_y = (frame.top - shown.top) * rows / shown.height
    # Pixel centres: sample i lies at start + (i + 0.5) * step, and pixel j's centre at j + 0.5.
    inverse = np.array([[step_x, 0, start_x + 0.5 * step_x - 0.5], [0, step_y, start_y + 0.5 * step_y - 0.5]])
    sampled = cv2.warpAffine(
        planes, inverse, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    )
    averaged = cv2.resize(sampled, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return Framed(averaged[..., :3], np.clip(averaged[..., 3], 0, 1))
