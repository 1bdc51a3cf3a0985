"""Solids as signed distances: negative inside, positive outside, in units of the shape's bounding sphere (radius 1).

A solid maps points, float32 (N, 3) with z up, to distances, float32 (N,). None is larger than the true distance by more
than a few percent, so that a ray may advance by it. Formulas: J. C. Hart, "Sphere Tracing", The Visual Computer, 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float32]
Solid = Callable[[Points], Distances]
Vector = Sequence[float]


def sphere(centre: Vector, radius: float) -> Solid:
    """Points within `radius` of `centre`."""
    middle, reach = np.array(centre, np.float32), np.float32(radius)
    return lambda points: _length(points - middle) - reach


def box(centre: Vector, half_sizes: Vector, rounding: float = 0.0) -> Solid:
    """A box along the axes; `rounding` is the radius of its edges, taken off inside the half sizes."""
    middle, soft = np.array(centre, np.float32), np.float32(rounding)
    inner = np.array(half_sizes, np.float32) - soft

    def distance(points: Points) -> Distances:
        beyond = np.abs(points - middle) - inner
        outside = _length(np.maximum(beyond, 0))
        signed = outside + np.minimum(reduce(np.maximum, beyond.T), 0) - soft
        return np.asarray(signed, np.float32)

    return distance


def rod(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Solid:
    """A straight rod with round ends; with `end_radius` its radius changes linearly along the axis."""
    first = np.array(start, np.float32)
    axis = np.array(end, np.float32) - first
    scaled = axis / (axis @ axis)
    slope = np.float32((radius if end_radius is None else end_radius) - radius)

    def distance(points: Points) -> Distances:
        from_start = points - first
        along = np.clip(from_start @ scaled, 0, 1)
        signed = _length(from_start - along[:, np.newaxis] * axis) - (np.float32(radius) + along * slope)
        return np.asarray(signed, np.float32)

    return distance


def ring(centre: Vector, axis: Vector, radius: float, tube_radius: float) -> Solid:
    """A torus around `axis`, its tube's centre line `radius` from `centre`."""
    middle = np.array(centre, np.float32)
    unit = np.array(axis, np.float32) / np.float32(np.linalg.norm(axis))

    def distance(points: Points) -> Distances:
        offset = points - middle
        height = offset @ unit
        outward = _length(offset - height[:, np.newaxis] * unit) - np.float32(radius)
        signed: Distances = np.hypot(outward, height) - np.float32(tube_radius)
        return signed

    return distance


def lathe(outline: Sequence[tuple[float, float]]) -> Solid:
    """The solid that an outline sweeps around the z axis.

    Args:
        outline: a closed polygon of (distance from the axis, z), without self-intersection, distances >= 0.
    """
    corners = np.array(outline, np.float32)

    def distance(points: Points) -> Distances:
        radius, z = np.hypot(points[:, 0], points[:, 1]), points[:, 2]
        nearest = np.full(len(points), np.inf, np.float32)
        inside = np.zeros(len(points), bool)
        for (r0, z0), (r1, z1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            dr, dz = r1 - r0, z1 - z0
            crossed = (z0 > z) != (z1 > z)
            if dz != 0:
                inside ^= crossed & (radius < r0 + (z - z0) * (dr / dz))
            # The axis itself is no surface: an outline closed along it bounds a full solid.
            if r0 > 0 or r1 > 0:
                along = np.clip(((radius - r0) * dr + (z - z0) * dz) / (dr * dr + dz * dz), 0, 1)
                nearest = np.minimum(nearest, np.hypot(radius - r0 - along * dr, z - z0 - along * dz))
        return np.where(inside, -nearest, nearest)

    return distance


def union(*solids: Solid) -> Solid:
    """All points of any."""
    return lambda points: nearest_of(points, solids)


def nearest_of(points: Points, solids: Iterable[Solid]) -> Distances:
    """The least of the solids' distances."""
    # Pairwise: numpy's own reduction of a list copies it into one array first, which takes three times as long.
    return reduce(np.minimum, (solid(points) for solid in solids))


def difference(solid: Solid, removed: Solid) -> Solid:
    """The points of `solid` that are not in `removed`."""
    return lambda points: np.maximum(solid(points), -removed(points))


def blend(width: float, *solids: Solid) -> Solid:
    """The union with fillets about `width` wide where two solids meet."""

    def distance(points: Points) -> Distances:
        joined = solids[0](points)
        for solid in solids[1:]:
            other = solid(points)
            overlap = np.maximum(np.float32(width) - np.abs(joined - other), 0)
            joined = np.minimum(joined, other) - overlap * overlap / np.float32(4 * width)
        return joined

    return distance


def around(count: int, solid: Solid) -> Solid:
    """`count` copies of a solid turned around the z axis.

    The solid must be symmetric in y and stay in the sector of 360 / count degrees around +x: each point is measured
    against the copy in its own sector only.
    """
    sector = np.float32(2 * np.pi / count)

    def distance(points: Points) -> Distances:
        angle = np.arctan2(points[:, 1], points[:, 0])
        turned = angle - sector * np.rint(angle / sector)
        radius = np.hypot(points[:, 0], points[:, 1])
        return solid(np.stack([radius * np.cos(turned), radius * np.sin(turned), points[:, 2]], axis=1))

    return distance


def moved(solid: Solid, offset: Vector, *, tilt_degrees: float = 0.0, turn_degrees: float = 0.0) -> Solid:
    """A solid tilted around its x axis, then turned around the z axis, then shifted by `offset`."""
    a, b = np.radians(tilt_degrees), np.radians(turn_degrees)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    to_world, shift = (turn @ tilt).astype(np.float32), np.array(offset, np.float32)
    return lambda points: solid((points - shift) @ to_world)


def mirrored(solid: Solid) -> Solid:
    """A solid on the side y >= 0, and its mirror image."""
    return lambda points: solid(np.stack([points[:, 0], np.abs(points[:, 1]), points[:, 2]], axis=1))


def _length(vectors: Points) -> Distances:
    length: Distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return length
