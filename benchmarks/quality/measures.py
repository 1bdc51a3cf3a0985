"""What is measured on one result of one pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.frame import Floats, Framed, Result, frame_result, frame_truth, object_level, true_box
from benchmarks.quality.matting_errors import (
    connectivity_error,
    gradient_error,
    mean_squared_error,
    sum_of_differences,
)
from benchmarks.quality.scenes import Scene

from cutstream_server.imaging.framing import centre_of_mass
from cutstream_server.imaging.geometry import Size

BACKDROPS: Final = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "green": (0.0, 1.0, 0.0)}
# Pixels of the frame this near to the truth's edge, or to its soft pixels, are its edge band.
EDGE_BAND_PX: Final = 3
SOFT_FROM, SOFT_TO = 0.02, 0.98
COLOUR_FROM, COLOUR_TO = 0.05, 0.95
# Below this overlap the pipeline cut out something else.
FOUND_IOU: Final = 0.8
# An object counts as cut when more than this of its long side lies outside the crop.
CUT_SHARE: Final = 0.01


@dataclass(frozen=True)
class Measures:
    """Errors of one result; percent of full scale unless said otherwise.

    Attributes:
        composite: mean absolute error over black, white and green.
        composite_black, composite_white, composite_green: over each.
        alpha_mae: mean |alpha - truth|.
        sad, grad, conn: see `matting_errors`, in thousands.
        mse: mean squared error of alpha, times 1000.
        edge_mae: mean |alpha - truth| in the edge band.
        iou: intersection over union of the object's pixels, percent.
        wrong: 1 when the IoU is under 80 percent.
        colour: mean absolute colour error on the truth's soft pixels that the result shows, of 255; None without any.
        box: largest distance of the result's box from the truth's, percent of the object's long side.
        centring: distance of the object's centre of mass from the crop's middle along the worse axis, percent of the
            crop's larger side.
        cut: 1 when the crop cuts the object.
    """

    composite: float
    composite_black: float
    composite_white: float
    composite_green: float
    alpha_mae: float
    sad: float
    mse: float
    grad: float
    conn: float
    edge_mae: float
    iou: float
    wrong: float
    colour: float | None
    box: float
    centring: float
    cut: float


def measure(result: Result, scene: Scene) -> Measures:
    """Compares a result with the truth, in the common frame."""
    truth, framed = frame_truth(scene), frame_result(result, scene)
    level = object_level(scene.alpha)
    composites = {name: 100 * composite_error(framed, truth, color) for name, color in BACKDROPS.items()}
    seen, wanted = framed.alpha > level, truth.alpha > level
    iou = 100 * float((seen & wanted).sum() / max(1, (seen | wanted).sum()))
    difference = np.abs(framed.alpha - truth.alpha)
    return Measures(
        composite=float(np.mean(list(composites.values()))),
        composite_black=composites["black"],
        composite_white=composites["white"],
        composite_green=composites["green"],
        alpha_mae=100 * float(difference.mean()),
        sad=sum_of_differences(framed.alpha, truth.alpha),
        mse=1000 * mean_squared_error(framed.alpha, truth.alpha),
        grad=gradient_error(framed.alpha, truth.alpha),
        conn=connectivity_error(framed.alpha, truth.alpha),
        edge_mae=100 * float(difference[edge_band(truth.alpha)].mean()),
        iou=iou,
        wrong=float(iou < 100 * FOUND_IOU),
        colour=_colour_error(framed, truth),
        box=_box_error(result, scene, level),
        centring=_centring(result, scene),
        cut=_cut(result, scene),
    )


def composite_error(framed: Framed, truth: Framed, color: tuple[float, float, float]) -> float:
    """Mean absolute difference of two cutouts laid over one colour, 0..1."""
    return float(np.abs(_laid_over(framed, color) - _laid_over(truth, color)).mean(dtype=np.float64))


def edge_band(truth: Floats) -> npt.NDArray[np.bool_]:
    """The pixels at the truth's edge: its soft ones, those beside its outline, and those near them."""
    soft = (truth > SOFT_FROM) & (truth < SOFT_TO)
    outline = cv2.morphologyEx((truth > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_BAND_PX + 1, 2 * EDGE_BAND_PX + 1))
    return np.asarray(cv2.dilate((soft | (outline > 0)).view(np.uint8), disc) > 0)


def _laid_over(framed: Framed, color: tuple[float, float, float]) -> Floats:
    laid: Floats = framed.premultiplied + (1 - framed.alpha)[..., np.newaxis] * np.array(color, np.float32)
    return laid


def _colour_error(framed: Framed, truth: Framed) -> float | None:
    soft = (truth.alpha > COLOUR_FROM) & (truth.alpha < COLOUR_TO) & (framed.alpha > COLOUR_FROM)
    if not soft.any():
        return None
    return 255 * float(np.abs(framed.colour - truth.colour)[soft].mean())


def _box_error(result: Result, scene: Scene, level: float) -> float:
    """A result that shows nothing is a whole object off."""
    left, top, right, bottom = true_box(scene)
    x, y, width, height = cv2.boundingRect((result.rgba[..., 3] > 255 * level).astype(np.uint8))
    if width == 0:
        return 100.0
    rows, columns = result.rgba.shape[:2]
    crop = result.crop
    step_x, step_y = crop.width / columns, crop.height / rows
    ours = (crop.left + x * step_x, crop.top + y * step_y)
    ours += (crop.left + (x + width) * step_x, crop.top + (y + height) * step_y)
    worst = max(abs(a - b) for a, b in zip(ours, (left, top, right, bottom), strict=True))
    return 100 * worst / max(right - left, bottom - top)


def _centring(result: Result, scene: Scene) -> float:
    height, width = scene.alpha.shape
    centre = centre_of_mass(scene.alpha, object_level(scene.alpha), Size(width, height))
    assert centre is not None
    middle = result.crop.center
    distance = max(abs(centre.x - middle.x), abs(centre.y - middle.y))
    return 100 * distance / max(result.crop.width, result.crop.height)


def _cut(result: Result, scene: Scene) -> float:
    left, top, right, bottom = true_box(scene)
    crop = result.crop
    outside = max(crop.left - left, crop.top - top, right - crop.left - crop.width, bottom - crop.top - crop.height)
    return float(outside > CUT_SHARE * max(right - left, bottom - top))
