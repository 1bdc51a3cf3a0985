"""Surfaces of fields, and how far one surface is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import igl  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction.carving import HALF_EXTENT, Field, Grid
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from trimesh import Trimesh
from trimesh.sample import sample_surface

SAMPLES: Final = 10_000
SEED: Final = 20261123
# Distances are told in percent of the diameter of the sphere around every shape.
DIAMETER: Final = 2.0

Inside = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solid:
    """A mesh, and what comparing it with others needs.

    Attributes:
        mesh: its surface.
        inside: (side^3,) whether the centre of each voxel of the grid is inside.
        samples: (10000, 3) points spread evenly over the surface.
    """

    mesh: Trimesh
    inside: Inside
    samples: Points

    @classmethod
    def of(cls, mesh: Trimesh, grid: Grid) -> Self:
        """Fill and sample a mesh.

        The inside is where the winding number is above one half, which a few gaps and overlapping parts, as generated
        meshes have them, hardly change (Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018).
        """
        inside = np.zeros(len(grid.centres), bool)
        near = np.all((grid.centres >= mesh.bounds[0]) & (grid.centres <= mesh.bounds[1]), axis=1)
        winding = igl.fast_winding_number(_vertices(mesh), _faces(mesh), np.ascontiguousarray(grid.centres[near]))
        inside[near] = winding > 0.5
        return cls(mesh, inside, np.asarray(sample_surface(mesh, SAMPLES, seed=SEED)[0], np.float64))


def surface(field: Field, level: float) -> Trimesh | None:
    """The surface at `level` of a field on a `Grid`, which is inside where it is higher; None when nothing is."""
    padded = np.pad(field, 1, constant_values=-1.0)
    if not field.max() > level:
        return None
    vertices, faces, _, _ = marching_cubes(padded, level, gradient_direction="ascent")  # type: ignore[no-untyped-call]
    pitch = 2 * HALF_EXTENT / len(field)
    return Trimesh(vertices=(vertices - 0.5) * pitch - HALF_EXTENT, faces=faces, process=False)


def component_count(mesh: Trimesh) -> int:
    """How many pieces share no vertex."""
    joined = coo_array((np.ones(len(mesh.edges), bool), tuple(mesh.edges.T)), (len(mesh.vertices),) * 2)
    labels = connected_components(joined, directed=False)[1]
    return len(np.unique(labels[mesh.faces[:, 0]]))


def volume_iou(one: Solid, other: Solid) -> float:
    """Volume of the intersection over that of the union, counted in voxels; 1 when both are empty."""
    either = np.count_nonzero(one.inside | other.inside)
    return float(np.count_nonzero(one.inside & other.inside) / either) if either else 1.0


def chamfer_percent(one: Solid, other: Solid) -> float:
    """Mean distance from points of one surface to the other surface, averaged over both ways, in percent of 2 units."""
    there, back = _distances(one.samples, other.mesh), _distances(other.samples, one.mesh)
    return float(100 * (there.mean() + back.mean()) / 2 / DIAMETER)


def _distances(points: Points, mesh: Trimesh) -> npt.NDArray[np.float64]:
    squared, _, _ = igl.point_mesh_squared_distance(points, _vertices(mesh), _faces(mesh))
    distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(squared, 0))
    return distances


def _vertices(mesh: Trimesh) -> Points:
    return np.ascontiguousarray(mesh.vertices, np.float64)


def _faces(mesh: Trimesh) -> npt.NDArray[np.int64]:
    return np.ascontiguousarray(mesh.faces, np.int64)
