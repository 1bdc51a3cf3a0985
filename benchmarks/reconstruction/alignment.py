"""Lays a mesh of unknown position, turn and size over another one."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from trimesh import Trimesh
from trimesh.registration import procrustes
from trimesh.sample import sample_surface

SEED: Final = 20261123
# Every rotation is within 45 degrees of one of these; the first holds the swaps of axes that file formats make.
STARTS: Final = Rotation.concatenate([Rotation.create_group("O"), Rotation.create_group("I")])
COARSE_POINTS, COARSE_STEPS = 300, 10
FINE_POINTS, FINE_STEPS = 4000, 40

Points = npt.NDArray[np.float64]


def align(mesh: Trimesh, target: Trimesh) -> Trimesh:
    """Move, turn and scale a mesh, without mirroring, so that its surface lies closest to the target's.

    Iterative closest points, from where the mesh is and from 84 turns at equal centre and size; the best of them once
    more with all points and with scale.
    """
    return mesh.copy().apply_transform(_best(_points(mesh, FINE_POINTS), _points(target, FINE_POINTS)))


def _best(moving: Points, target: Points) -> Points:
    few, fixed = moving[:COARSE_POINTS], target[:COARSE_POINTS]
    starts = [np.eye(4), *(_start(moving, target, rotation) for rotation in STARTS)]
    coarse = [_closer(few, fixed, start, COARSE_STEPS) for start in starts]
    best = min(coarse, key=lambda matrix: _apart(matrix, few, fixed))
    return _closer(moving, target, best, FINE_STEPS, scale=True)


def _closer(moving: Points, target: Points, matrix: Points, steps: int, *, scale: bool = False) -> Points:
    """Some steps of iterative closest points, with pairs found both ways.

    One way only would rather shrink the mesh into a part of the target than cover all of it.
    """
    tree = cKDTree(target)
    for _ in range(steps):
        moved = _transformed(moving, matrix)
        sources = np.vstack([moving, moving[cKDTree(moved).query(target)[1]]])
        goals = np.vstack([target[tree.query(moved)[1]], target])
        turned = _transformed(sources, matrix)
        step = procrustes(turned, goals, reflection=False, scale=scale, return_cost=False)
        matrix = step @ matrix
    return matrix


def _start(moving: Points, target: Points, rotation: Rotation) -> Points:
    """Equal centres and mean square distances from them."""
    from_centre, to_centre = moving.mean(axis=0), target.mean(axis=0)
    scale = np.sqrt(np.square(target - to_centre).sum() / np.square(moving - from_centre).sum())
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation.as_matrix()
    matrix[:3, 3] = to_centre - matrix[:3, :3] @ from_centre
    return matrix


def _apart(matrix: Points, moving: Points, target: Points) -> float:
    moved = _transformed(moving, matrix)
    return float(cKDTree(target).query(moved)[0].mean() + cKDTree(moved).query(target)[0].mean())


def _transformed(points: Points, matrix: Points) -> Points:
    transformed: Points = points @ matrix[:3, :3].T + matrix[:3, 3]
    return transformed


def _points(mesh: Trimesh, count: int) -> Points:
    return np.asarray(sample_surface(mesh, count, seed=SEED)[0], np.float64)
