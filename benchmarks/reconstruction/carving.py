"""The visual hull: the largest volume whose silhouettes agree with all views, carved on a grid.

A. Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", PAMI 1994.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction.cameras import Camera

Field = npt.NDArray[np.float32]

# All shapes lie in the unit sphere; what a wrong silhouette leaves outside of this cube is not counted.
HALF_EXTENT: Final = 1.05
# OpenCV takes no images of 2^15 pixels a side or more.
REMAP_SIDE: Final = 4096


@dataclass(frozen=True)
class Grid:
    """A cube of `side` voxels an axis around the origin, addressed [x, y, z].

    Attributes:
        side: voxels an axis.
    """

    side: int

    @property
    def pitch(self) -> float:
        """Length of a voxel's edge, in world units."""
        return 2 * HALF_EXTENT / self.side

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """The voxels' centres, (side^3, 3), in the order of a raveled field."""
        axis = (np.arange(self.side) + 0.5) * self.pitch - HALF_EXTENT
        return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def carve(grid: Grid, silhouettes: Iterable[tuple[Camera, Field]]) -> Field:
    """Carve a grid by silhouettes.

    Args:
        grid: where.
        silhouettes: cameras, each with the alpha (H, W) of its view; what is outside of a view is transparent.

    Returns:
        (side, side, side) float32: the least alpha that any view has at the voxel. The hull's surface is at 0.5.
    """
    field = np.ones(grid.side**3, np.float32)
    left = np.arange(field.size)
    for camera, alpha in silhouettes:
        if not left.size:
            break
        pixels = camera.project(grid.centres[left])
        field[left] = np.minimum(field[left], _sample(_voxel_means(alpha, camera, grid), pixels))
        left = left[field[left] > 0]
    return field.reshape(grid.side, grid.side, grid.side)


def _voxel_means(alpha: Field, camera: Camera, grid: Grid) -> Field:
    """Mean alpha over the square that a voxel in the middle covers: then 0.5 is where the outline crosses its centre.

    Without it a voxel is in or out, and the hull's surface a staircase of voxels.
    """
    covered = camera.focal_px * grid.pitch / float(np.linalg.norm(camera.eye))
    width = 2 * round((covered - 1) / 2) + 1
    return (
        np.asarray(cv2.blur(alpha, (width, width), borderType=cv2.BORDER_CONSTANT), np.float32) if width > 1 else alpha
    )


def _sample(alpha: Field, pixels: npt.NDArray[np.float64]) -> Field:
    """Bilinear samples at continuous pixels (N, 2)."""
    rows = -(-len(pixels) // REMAP_SIDE)
    padded = np.full((2, rows * REMAP_SIDE), -2, np.float32)
    padded[:, : len(pixels)] = pixels.T - 0.5
    x, y = padded.reshape(2, rows, REMAP_SIDE)
    sampled = cv2.remap(alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(sampled, np.float32).ravel()[: len(pixels)]
