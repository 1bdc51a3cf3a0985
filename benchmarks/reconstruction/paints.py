"""Surface colours computed from where a point lies: wood, marble, checks, stripes, and mottled paint.

Objects of one flat colour look like drawings, and a network trained on photos treats them as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction.solids import Points

Colours = npt.NDArray[np.float32]
Paint = Callable[[Points], Colours]
Colour = Sequence[float]

# Directions of the waves that are added up to noise: any that are no multiples of each other.
_WAVES: Final = np.array(
    [[5.1, 3.7, -4.3], [-6.7, 8.9, 5.3], [13.1, -9.7, 11.9], [-19.3, 23.9, 17.1], [41.3, 31.7, -37.9]], np.float32
)
_WAVE_WEIGHTS: Final = np.array([1.0, 0.7, 0.45, 0.3, 0.2], np.float32)


def mottled(colour: Colour, strength: float = 0.12) -> Paint:
    """One colour, lighter and darker by up to `strength`."""
    base = np.array(colour, np.float32)
    return lambda points: base * (1 + np.float32(strength) * _noise(points)[:, np.newaxis])


def wood(light: Colour, dark: Colour, rings: float = 9.0) -> Paint:
    """Year rings around an axis near z, `rings` for each unit of length."""

    def paint(points: Points) -> Colours:
        radius = np.hypot(points[:, 0] + 0.3 + 0.1 * points[:, 2], points[:, 1] - 0.2)
        return _mix(light, dark, 0.5 + 0.5 * np.sin(2 * np.pi * rings * radius + 1.5 * _noise(points)))

    return paint


def marble(ground: Colour, vein: Colour) -> Paint:
    """Thin veins on a light ground."""

    def paint(points: Points) -> Colours:
        wave = np.sin(points @ np.array([4, 7, 5], np.float32) + 3 * _noise(points))
        return _mix(ground, vein, (1 - np.abs(wave)) ** 4)

    return paint


def checks(first: Colour, second: Colour, size: float) -> Paint:
    """Cubes of two colours in turn, `size` wide."""

    def paint(points: Points) -> Colours:
        odd = np.floor(points / np.float32(size)).astype(np.int32).sum(axis=1) % 2
        return _mix(first, second, odd.astype(np.float32)) * (1 + 0.08 * _noise(points)[:, np.newaxis])

    return paint


def stripes(first: Colour, second: Colour, direction: Sequence[float], width: float) -> Paint:
    """Bands of two colours in turn, each `width` wide, across `direction`."""
    across = np.array(direction, np.float32) / np.float32(np.linalg.norm(direction))

    def paint(points: Points) -> Colours:
        odd = np.floor(points @ across / np.float32(width)).astype(np.int32) % 2
        return _mix(first, second, odd.astype(np.float32)) * (1 + 0.08 * _noise(points)[:, np.newaxis])

    return paint


def _mix(first: Colour, second: Colour, share: npt.NDArray[np.float32]) -> Colours:
    weight = share[:, np.newaxis].astype(np.float32)
    mixed: Colours = (1 - weight) * np.array(first, np.float32) + weight * np.array(second, np.float32)
    return mixed


def _noise(points: Points) -> npt.NDArray[np.float32]:
    """Smooth variation in about -1..1, float32 (N,)."""
    phases = points @ _WAVES.T
    waves = np.sin(phases + 1.7 * np.sin(np.roll(phases, 1, axis=1)))
    noise: npt.NDArray[np.float32] = waves @ (_WAVE_WEIGHTS / _WAVE_WEIGHTS.sum())
    return noise
