"""The numbers that say whether a mask, its object and its framing can be trusted.

A is the alpha map of the whole upright image before framing, float32 (h, w) in 0..1, area-resampled to a long side of
1024; N the number of its pixels; t the threshold used; object pixels are those with A > t, strictly.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.framing import centre_of_mass, object_rect
from cutstream_server.imaging.geometry import CropBox, Point, Size
from cutstream_server.imaging.mask import AlphaMap, count_components, object_pixels

COVERED_ABOVE: Final = 0.5
SOFT_ABOVE: Final = 0.1
SOLID_ABOVE: Final = 0.9
# An object may be off the crop's middle by this share of the crop's smaller side and still be well centred.
CENTERING_LIMIT: Final = 0.1


class ObjectValidation(enum.Enum):
    """Whether the object's size is within the limits asked for."""

    OK = "ok"
    NO_OBJECT = "no_object"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"


@dataclass(frozen=True)
class Centering:
    """How far the object's centre of mass is from the crop's middle.

    Attributes:
        offset_x_px: centre of mass - crop centre in source pixels; positive when the object is right of the middle.
        offset_y_px: the same downwards.
        offset_x_ratio: `offset_x_px` / crop width.
        offset_y_ratio: `offset_y_px` / crop height.
        well_centered: both offsets are at most a tenth of the smaller crop side.
        score: 1 at the middle, falling linearly with the larger offset to 0 at that limit and beyond.
    """

    offset_x_px: float
    offset_y_px: float
    offset_x_ratio: float
    offset_y_ratio: float
    well_centered: bool
    score: float


@dataclass(frozen=True)
class MaskMetrics:
    """What is measured on A; all but `edge_sharpness`, `aspect_ratio` and the count are ratios from 0 to 1.

    Attributes:
        mask_confidence_mean: mean of A.
        mask_confidence_std: sample standard deviation of A (N - 1); 0 for a single pixel.
        alpha_coverage: #(A > 0.5) / N.
        soft_edge_ratio: (#(A > 0.1) - #(A > 0.9)) / N.
        object_coverage_ratio: #(A > t) / N.
        bounding_box_area_ratio: #(A > t) / area of its bounding box; 0 without object pixels.
        edge_sharpness: mean of sqrt(gx^2 + gy^2), unnormalised 3 x 3 Sobel, replicated border; a sharp straight edge
            is 4 in each of the two pixels beside it.
        aspect_ratio: width / height of the object's bounding box in source pixels; None without object pixels.
        component_count: 8-connected components of object pixels, single pixels included.
        touches_border: an object pixel lies in the first or last row or column.
        cropped_alpha_ratio: share of the sum of A outside the crop, pixels cut by its edge counted in part; 0 for an
            empty map, None without a crop.
        centering: None without a crop or without object pixels.
    """

    mask_confidence_mean: float
    mask_confidence_std: float
    alpha_coverage: float
    soft_edge_ratio: float
    object_coverage_ratio: float
    bounding_box_area_ratio: float
    edge_sharpness: float
    aspect_ratio: float | None
    component_count: int
    touches_border: bool
    cropped_alpha_ratio: float | None
    centering: Centering | None


def measure_mask(alpha: AlphaMap, threshold: float, source: Size, crop: CropBox | None) -> MaskMetrics:
    """Measure everything in `MaskMetrics`.

    Args:
        alpha: A, (h, w) in 0..1, covering the whole source.
        threshold: t, as used for the object's box.
        source: size of the upright source image.
        crop: the crop in source pixels; None when there is none, as for an image without an object.
    """
    objects = object_pixels(alpha, threshold)
    object_count = np.count_nonzero(objects)
    _, _, box_width, box_height = object_rect(objects)
    rows, columns = alpha.shape
    mean, deviation = _mean_and_deviation(alpha)
    centre = centre_of_mass(alpha, threshold, source)
    return MaskMetrics(
        mask_confidence_mean=mean,
        mask_confidence_std=deviation,
        alpha_coverage=_share_above(alpha, COVERED_ABOVE),
        soft_edge_ratio=_share_above(alpha, SOFT_ABOVE) - _share_above(alpha, SOLID_ABOVE),
        object_coverage_ratio=object_count / alpha.size,
        bounding_box_area_ratio=object_count / (box_width * box_height) if object_count else 0.0,
        edge_sharpness=_edge_sharpness(alpha),
        aspect_ratio=(box_width * source.width / columns) / (box_height * source.height / rows)
        if object_count
        else None,
        component_count=count_components(alpha, threshold),
        touches_border=bool(objects[[0, -1]].any() or objects[:, [0, -1]].any()),
        cropped_alpha_ratio=cropped_alpha_ratio(alpha, source, crop) if crop else None,
        centering=measure_centering(centre, crop) if crop and centre else None,
    )


def measure_centering(centre: Point, crop: CropBox) -> Centering:
    """Compare the object's centre of mass with the middle of the crop, both in source pixels."""
    offset_x = centre.x - crop.center.x
    offset_y = centre.y - crop.center.y
    limit = CENTERING_LIMIT * min(crop.width, crop.height)
    worst = max(abs(offset_x), abs(offset_y))
    return Centering(
        offset_x_px=offset_x,
        offset_y_px=offset_y,
        offset_x_ratio=offset_x / crop.width,
        offset_y_ratio=offset_y / crop.height,
        well_centered=worst <= limit,
        score=1 - min(1.0, worst / limit),
    )


def validate_object(coverage: float, *, has_object: bool, minimum: float, maximum: float) -> ObjectValidation:
    """Judge the object's size.

    Args:
        coverage: `MaskMetrics.object_coverage_ratio`.
        has_object: the framing found a box. A hair's breadth of object can vanish from A, which is averaged: it is
            too small, not absent.
        minimum: MIN_OBJECT_COVERAGE; this much is enough.
        maximum: MAX_OBJECT_COVERAGE; this much is not too much.
    """
    if not has_object:
        return ObjectValidation.NO_OBJECT
    if coverage < minimum:
        return ObjectValidation.TOO_SMALL
    if coverage > maximum:
        return ObjectValidation.TOO_LARGE
    return ObjectValidation.OK


def cropped_alpha_ratio(alpha: AlphaMap, source: Size, crop: CropBox) -> float:
    """The share of the map's alpha that the crop leaves out, 0..1; a pixel on the crop's edge counts by its area."""
    rows, columns = alpha.shape
    total = _weighted_sum(alpha, np.ones(rows), np.ones(columns))
    if total == 0:
        return 0.0
    scale_x, scale_y = columns / source.width, rows / source.height
    inside = _weighted_sum(
        alpha,
        _covered(rows, crop.top * scale_y, (crop.top + crop.height) * scale_y),
        _covered(columns, crop.left * scale_x, (crop.left + crop.width) * scale_x),
    )
    return min(1.0, max(0.0, 1 - inside / total))


def _mean_and_deviation(alpha: AlphaMap) -> tuple[float, float]:
    """Mean and sample standard deviation, in a third of the time of OpenCV's `meanStdDev`; both sums are doubles."""
    total = cv2.sumElems(alpha)[0]
    mean = total / alpha.size
    squares = cv2.norm(alpha, cv2.NORM_L2SQR) - total * mean
    return mean, math.sqrt(max(squares, 0.0) / max(alpha.size - 1, 1))


def _share_above(alpha: AlphaMap, value: float) -> float:
    return np.count_nonzero(object_pixels(alpha, value)) / alpha.size


def _edge_sharpness(alpha: AlphaMap) -> float:
    # Half of a usual image is empty; further than a pixel outside what is visible there is no edge.
    left, top, width, height = object_rect(alpha > 0)
    near = alpha[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
    gradient_x = cv2.Sobel(near, cv2.CV_32F, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
    gradient_y = cv2.Sobel(near, cv2.CV_32F, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return cv2.sumElems(cv2.magnitude(gradient_x, gradient_y))[0] / alpha.size


def _covered(count: int, start: float, stop: float) -> npt.NDArray[np.float64]:
    """How much of each of `count` unit intervals from 0 on lies between start and stop, 0..1."""
    return np.diff(np.clip(np.arange(count + 1.0), start, stop))


def _weighted_sum(
    alpha: AlphaMap, row_weights: npt.NDArray[np.float64], column_weights: npt.NDArray[np.float64]
) -> float:
    by_row = alpha @ column_weights.astype(np.float32)
    return float(by_row @ row_weights)
