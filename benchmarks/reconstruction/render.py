"""Renders a shape: straight colours and an antialiased alpha that is known exactly, by sphere tracing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction.cameras import Camera
from benchmarks.reconstruction.paints import Colours
from benchmarks.reconstruction.shapes import Shape
from benchmarks.reconstruction.solids import Distances, Points

Floats32 = npt.NDArray[np.float32]

BOUNDING_RADIUS: Final = 1.0
MAX_STEPS: Final = 128
# Blends and tapered rods overstate distances by a few percent.
STEP_SHARE: Final = np.float32(0.9)
# A thousandth of the smallest part; a tenth of a pixel at the sizes rendered here.
HIT_DISTANCE: Final = np.float32(3e-4)
# Each edge pixel is the mean of 16 rays, no two in one row or column, so that upright edges get 17 levels as well: the
# points of Hammersley.
EDGE_RAYS: Final = np.stack([np.arange(16), [int(f"{i:04b}"[::-1], 2) for i in range(16)]], axis=1) / 16 - 15 / 32
# A ray that passes further than this from the surface, in pixels, leaves its pixel empty: half a diagonal, and a bit.
EDGE_REACH_PX: Final = 0.8

# Their arrays stay in a processor's cache; all rays at once take longer.
BLOCK_RAYS: Final = 65536

# Light from above, left of the camera, and sky light that is stronger from above.
KEY_LIGHT: Final = np.array([-0.5, -0.75, -0.55])
KEY_STRENGTH, SKY_STRENGTH, GROUND_STRENGTH = 0.75, 0.5, 0.22
GLOSS, GLOSS_POWER = 0.18, 24
SHADOW_STEPS, SHADOW_SOFTNESS = 12, 8.0
OCCLUSION_REACHES: Final = (0.03, 0.08, 0.16)


@dataclass(frozen=True)
class Rendering:
    """A shape alone.

    Attributes:
        foreground: (H, W, 3) float32 in 0..1, straight colours where alpha > 0.
        alpha: (H, W) float32, the share of each pixel that the shape covers.
    """

    foreground: Floats32
    alpha: Floats32


@dataclass(frozen=True)
class _Hits:
    """Where rays ended: the distance along each, whether it met the shape, and how near it passed, in pixels."""

    along: Distances
    met: npt.NDArray[np.bool_]
    nearest_px: Distances


def render(shape: Shape, camera: Camera) -> Rendering:
    """Render a shape; the camera's eye must be outside the unit sphere.

    One ray goes through each pixel's middle; pixels that the outline may cross get 16.
    """
    height, width = camera.height_px, camera.width_px
    rows, columns = np.indices((height, width))
    middles = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64) + 0.5
    foreground = np.zeros((height * width, 3), np.float32)
    met = np.zeros(height * width, bool)
    nearest_px = np.zeros(height * width, np.float32)
    for block in _blocks(np.arange(height * width), 1):
        directions = camera.directions(middles[block]).astype(np.float32)
        hits = _trace(shape, camera, directions)
        met[block], nearest_px[block] = hits.met, hits.nearest_px
        foreground[block[hits.met]] = _shade(shape, camera, directions[hits.met], hits.along[hits.met])
    alpha = met.astype(np.float32)
    outline = cv2.morphologyEx(
        met.reshape(height, width).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
    )
    edges = (outline.ravel() > 0) | (~met & (nearest_px < EDGE_REACH_PX))
    for block in _blocks(np.flatnonzero(edges), len(EDGE_RAYS)):
        foreground[block], alpha[block] = _supersample(shape, camera, middles[block])
    return Rendering(foreground.reshape(height, width, 3), alpha.reshape(height, width))


def _blocks(pixels: npt.NDArray[np.intp], rays_each: int) -> list[npt.NDArray[np.intp]]:
    return np.array_split(pixels, 1 + len(pixels) * rays_each // BLOCK_RAYS)


def _supersample(shape: Shape, camera: Camera, middles: npt.NDArray[np.float64]) -> tuple[Colours, Floats32]:
    """Colour (of one ray that meets the shape) and coverage of some pixels."""
    rays = len(EDGE_RAYS)
    directions = camera.directions((middles[:, np.newaxis] + EDGE_RAYS).reshape(-1, 2)).astype(np.float32)
    hits = _trace(shape, camera, directions)
    met = hits.met.reshape(-1, rays)
    covered = met.any(axis=1)
    chosen = (np.arange(len(met)) * rays + met.argmax(axis=1))[covered]
    colours = np.zeros((len(met), 3), np.float32)
    colours[covered] = _shade(shape, camera, directions[chosen], hits.along[chosen])
    return colours, met.mean(axis=1, dtype=np.float32)


def _trace(shape: Shape, camera: Camera, directions: Floats32) -> _Hits:
    eye = camera.eye.astype(np.float32)
    # Between entering and leaving the bounding sphere.
    middle = -(directions @ eye)
    reach = np.square(np.float32(BOUNDING_RADIUS)) - (eye @ eye - np.square(middle))
    half = np.sqrt(np.maximum(reach, 0))
    along, end = middle - half, middle + half
    nearest = np.full(len(directions), np.inf, np.float32)
    met = np.zeros(len(directions), bool)
    active = np.flatnonzero(reach > 0)
    pixel = np.float32(1 / camera.focal_px)
    for _ in range(MAX_STEPS):
        if not active.size:
            break
        here = along[active]
        distance = shape.distance(eye + here[:, np.newaxis] * directions[active])
        nearest[active] = np.minimum(nearest[active], distance / (here * pixel))
        hit = distance < HIT_DISTANCE
        met[active[hit]] = True
        along[active] = here + np.where(hit, 0, STEP_SHARE * np.maximum(distance, HIT_DISTANCE))
        active = active[~hit & (along[active] < end[active])]
    return _Hits(along, met, nearest)


def _shade(shape: Shape, camera: Camera, directions: Floats32, along: Distances) -> Colours:
    points = camera.eye.astype(np.float32) + along[:, np.newaxis] * directions
    normals = _normals(shape, points)
    light = (KEY_LIGHT @ camera.axes / np.linalg.norm(KEY_LIGHT)).astype(np.float32)
    key = KEY_STRENGTH * np.maximum(normals @ light, 0) * _lit_share(shape, points + 0.01 * normals, light)
    sky = 0.5 + 0.5 * normals[:, 2]
    ambient = (GROUND_STRENGTH + (SKY_STRENGTH - GROUND_STRENGTH) * sky) * _openness(shape, points, normals)
    halfway = light - directions
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    gloss = GLOSS * np.maximum(np.einsum("ij,ij->i", normals, halfway), 0) ** GLOSS_POWER
    shaded: Colours = shape.colours(points) * (key + ambient)[:, np.newaxis] + gloss[:, np.newaxis]
    return np.clip(shaded, 0, 1).astype(np.float32)


def _normals(shape: Shape, points: Points) -> Points:
    """By differences along the four corners of a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    gradient = sum(shape.distance(points + np.float32(1e-3) * corner)[:, np.newaxis] * corner for corner in corners)
    normals: Points = np.asarray(gradient, np.float32)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals


def _lit_share(shape: Shape, points: Points, light: Floats32) -> Floats32:
    """How much of a soft key light reaches the points, 0..1."""
    share = np.ones(len(points), np.float32)
    along = np.full(len(points), 0.02, np.float32)
    for _ in range(SHADOW_STEPS):
        distance = shape.distance(points + along[:, np.newaxis] * light)
        share = np.minimum(share, np.clip(SHADOW_SOFTNESS * distance / along, 0, 1))
        along += np.clip(distance, 0.02, 0.25)
    return share


def _openness(shape: Shape, points: Points, normals: Points) -> Floats32:
    """How much of the sky a point sees, judged by how fast one gets away from the surface along the normal."""
    missing = [
        1 - np.clip(shape.distance(points + reach * normals) / reach, 0, 1)
        for reach in map(np.float32, OCCLUSION_REACHES)
    ]
    return np.asarray(1 - 0.75 * np.mean(missing, axis=0), np.float32)
