"""A pinhole camera, with pixels as everywhere here: pixel i covers [i, i + 1), y down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the origin's neighbourhood.

    Attributes:
        eye: the centre of projection in world units.
        axes: (3, 3) rows: the camera's right, down and forward in the world.
        focal_px: distance of the image plane.
        centre_px: (x, y) where the forward axis meets the image.
        width_px: image width.
        height_px: image height.
    """

    eye: Floats
    axes: Floats
    focal_px: float
    centre_px: tuple[float, float]
    width_px: int
    height_px: int

    @classmethod
    def orbiting(
        cls,
        azimuth_degrees: float,
        elevation_degrees: float,
        distance: float,
        *,
        focal_px: float,
        centre_px: tuple[float, float],
        width_px: int,
        height_px: int,
    ) -> Self:
        """Look at the origin from a place on a sphere around it, z up; azimuth 0 is +x, 90 is +y."""
        azimuth, elevation = np.radians([azimuth_degrees, elevation_degrees])
        outward = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        axes = np.stack([right, np.cross(-outward, right), -outward])
        return cls(distance * outward, axes, focal_px, centre_px, width_px, height_px)

    def project(self, points: Floats) -> Floats:
        """Map world points (N, 3) in front of the camera to continuous pixels (N, 2)."""
        seen = (points - self.eye) @ self.axes.T
        return seen[:, :2] * (self.focal_px / seen[:, 2:]) + self.centre_px

    def directions(self, pixels: Floats) -> Floats:
        """Unit directions (N, 3) from the eye through continuous pixels (N, 2)."""
        plane = (pixels - self.centre_px) / self.focal_px
        toward = plane @ self.axes[:2] + self.axes[2]
        directed: Floats = toward / np.linalg.norm(toward, axis=1, keepdims=True)
        return directed
