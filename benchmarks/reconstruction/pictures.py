"""One picture for each shape: reconstructions on top, then the views with every pipeline's cutout beside the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction.cameras import Camera
from trimesh import Trimesh
from trimesh.sample import sample_surface

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CELL_PX: Final = 210
HEADING_PX: Final = 24
BACKDROP: Final = 0.75
MISSING_TINT: Final = (1.0, 0.0, 0.0)
EXTRA_TINT: Final = (0.0, 0.1, 1.0)
PORTRAIT_POINTS: Final = 120_000
# The unit sphere fills the cell.
PORTRAIT_CAMERA: Final = Camera.orbiting(
    40,
    25,
    4.0,
    focal_px=CELL_PX / 2 * math.sqrt(4.0**2 - 1),
    centre_px=(CELL_PX / 2, CELL_PX / 2),
    width_px=CELL_PX,
    height_px=CELL_PX,
)
PORTRAIT_LIGHT: Final = (-0.5, -0.6, -0.6)
SEED: Final = 20261123
JPEG_QUALITY: Final = 85


def photo_cell(image: bytes) -> Pixels:
    """An encoded photo, made to fit."""
    return _fit(np.asarray(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8))


def cutout_cell(seen: Floats, truth: Floats) -> Pixels:
    """A cutout in the view's frame (H, W, 4, premultiplied) over grey; red where the true alpha (H, W) is missing and
    blue where there is too much.
    """
    laid = seen[..., :3] + (1 - seen[..., 3:]) * np.float32(BACKDROP)
    for tint, error in ((MISSING_TINT, truth - seen[..., 3]), (EXTRA_TINT, seen[..., 3] - truth)):
        weight = np.maximum(error, 0)[..., np.newaxis]
        laid = (1 - weight) * laid + weight * np.array(tint, np.float32)
    return _fit(np.rint(255 * np.clip(laid, 0, 1)).astype(np.uint8))


def portrait_cell(mesh: Trimesh | None) -> Pixels:
    """A mesh in plain clay, seen from above: points of its surface, the nearest on top."""
    cell = np.full((CELL_PX, CELL_PX, 3), round(255 * BACKDROP), np.uint8)
    if mesh is None:
        return cell
    points, faces = sample_surface(mesh, PORTRAIT_POINTS, seed=SEED)
    pixels = np.floor(PORTRAIT_CAMERA.project(points)).astype(int)
    light = np.array(PORTRAIT_LIGHT) @ PORTRAIT_CAMERA.axes
    lit = np.maximum(mesh.face_normals[faces] @ light, 0) / np.linalg.norm(light)
    order = np.argsort(-(points @ PORTRAIT_CAMERA.axes[2]))
    order = order[np.all((pixels[order] >= 0) & (pixels[order] < CELL_PX), axis=1)]
    columns, rows = pixels[order].T
    cell[rows, columns] = (50 + 180 * lit[order, np.newaxis]).astype(np.uint8)
    return np.asarray(cv2.medianBlur(cell, 3), np.uint8)


def sheet(rows: Sequence[Mapping[str, Pixels]]) -> bytes:
    """Cells by heading, row under row, as a JPEG; a row may lack some headings of the first one."""
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    top = np.full((HEADING_PX, CELL_PX * len(headings), 3), 255, np.uint8)
    for index, heading in enumerate(headings):
        where = (4 + index * CELL_PX, HEADING_PX - 8)
        cv2.putText(top, heading, where, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    blank = np.full((CELL_PX, CELL_PX, 3), 255, np.uint8)
    lines = [np.hstack([row.get(heading, blank) for heading in headings]) for row in rows]
    bgr = cv2.cvtColor(np.vstack([top, *lines]), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _fit(rgb: Pixels) -> Pixels:
    """The whole picture in the top left of a square cell."""
    height, width = rgb.shape[:2]
    scale = CELL_PX / max(height, width)
    small = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    cell = np.full((CELL_PX, CELL_PX, 3), 255, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small
    return cell
