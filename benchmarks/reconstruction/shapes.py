"""A shape: parts of one material each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.reconstruction.paints import Colours, Paint
from benchmarks.reconstruction.solids import Distances, Points, Solid, nearest_of


@dataclass(frozen=True)
class Part:
    """A solid of one material."""

    solid: Solid
    paint: Paint


@dataclass(frozen=True)
class Shape:
    """A thing of one or more parts.

    Attributes:
        name: stable; names files and rows of reports.
        parts: their union is the shape.
        component_count: how many pieces do not touch each other.
        hole_count: genus: how many cuts leave every piece in one piece, summed over the pieces.
    """

    name: str
    parts: tuple[Part, ...]
    component_count: int
    hole_count: int

    def distance(self, points: Points) -> Distances:
        """Signed distance of points (N, 3): negative inside; float32 (N,)."""
        return nearest_of(points, (part.solid for part in self.parts))

    def colours(self, points: Points) -> Colours:
        """The paint of points (N, 3) on the surface: that of the nearest part, (N, 3) in 0..1."""
        owner = np.argmin([part.solid(points) for part in self.parts], axis=0)
        colours = np.empty((len(points), 3), np.float32)
        for index, part in enumerate(self.parts):
            owned = owner == index
            colours[owned] = part.paint(points[owned])
        return np.clip(colours, 0, 1)
