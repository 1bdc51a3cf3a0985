"""Things made by code that are found indoors."""

from __future__ import annotations

import numpy as np
from benchmarks.reconstruction.paints import checks, marble, mottled, stripes, wood
from benchmarks.reconstruction.shapes import Part, Shape
from benchmarks.reconstruction.solids import blend, box, difference, lathe, mirrored, moved, ring, rod, union


def mug() -> Shape:
    """A striped cup with a handle."""
    wall = lathe([(0, -0.62), (0.5, -0.62), (0.54, 0.62), (0.48, 0.62), (0.44, -0.5), (0, -0.5)])
    hollow = lathe([(0, -0.5), (0.45, -0.5), (0.49, 0.7), (0, 0.7)])
    handle = difference(ring((0.5, 0, 0.02), (0, 1, 0), 0.33, 0.065), hollow)
    return Shape(
        "mug",
        (
            Part(wall, stripes((0.85, 0.82, 0.72), (0.16, 0.36, 0.55), (0, 0, 1), 0.31)),
            Part(handle, mottled((0.16, 0.36, 0.55))),
        ),
        component_count=1,
        hole_count=1,
    )


def vase() -> Shape:
    """A hollow vase with a narrow neck."""
    heights = np.linspace(-0.9, 0.9, 21)
    radii = 0.3 + 0.17 * np.sin(2.6 * heights + 2.3) + 0.02 * np.cos(9 * heights)
    outer = list(zip(radii, heights, strict=True))
    inner = [(radius - 0.05, height) for radius, height in outer[1:]]
    return Shape(
        "vase",
        (
            Part(
                lathe([(0, -0.9), *outer, *reversed(inner), (0, heights[1])]),
                marble((0.88, 0.85, 0.8), (0.35, 0.2, 0.3)),
            ),
        ),
        component_count=1,
        hole_count=0,
    )


def chair() -> Shape:
    """A chair with thin legs and three slats."""
    legs = mirrored(
        union(rod((0.3, 0.3, -0.08), (0.33, 0.33, -0.83), 0.035), rod((-0.3, 0.3, -0.08), (-0.34, 0.33, -0.83), 0.035))
    )
    posts = mirrored(rod((-0.3, 0.3, -0.05), (-0.4, 0.3, 0.82), 0.035))
    slats = union(*(box((-0.31 - 0.115 * z, 0, z), (0.02, 0.3, 0.05), 0.01) for z in (0.25, 0.48, 0.72)))
    return Shape(
        "chair",
        (
            Part(box((0, 0, -0.05), (0.36, 0.36, 0.04), 0.02), checks((0.7, 0.2, 0.18), (0.85, 0.75, 0.6), 0.12)),
            Part(union(legs, posts, slats), wood((0.72, 0.5, 0.28), (0.45, 0.26, 0.12))),
        ),
        component_count=1,
        hole_count=3,
    )


def lamp() -> Shape:
    """A desk lamp with a thin bent stem and an open shade."""
    base = lathe([(0, -0.88), (0.34, -0.88), (0.32, -0.82), (0.08, -0.74), (0, -0.74)])
    stem = union(rod((0, 0, -0.8), (0.06, 0, -0.2), 0.03), rod((0.06, 0, -0.2), (0, 0, 0.42), 0.03))
    bar = rod((-0.395, 0, 0.4), (0.395, 0, 0.4), 0.022)
    shade = lathe([(0.5, 0.2), (0.27, 0.85), (0.235, 0.85), (0.465, 0.2)])
    return Shape(
        "lamp",
        (
            Part(union(base, stem, bar), mottled((0.62, 0.45, 0.16), 0.2)),
            Part(shade, stripes((0.9, 0.85, 0.7), (0.72, 0.3, 0.22), (0.3, 0, 1), 0.13)),
        ),
        component_count=1,
        hole_count=2,
    )


def headphones() -> Shape:
    """Headphones with a thin arch."""
    arch = difference(ring((0, 0, 0.1), (1, 0, 0), 0.62, 0.045), box((0, 0, -0.55), (1, 1, 0.62)))
    arms = mirrored(rod((0, 0.62, 0.12), (0, 0.58, -0.2), 0.045))
    cups = mirrored(
        moved(
            lathe([(0, -0.1), (0.3, -0.1), (0.3, 0.06), (0.24, 0.12), (0.14, 0.12), (0.12, 0.02), (0, 0.02)]),
            (0, 0.55, -0.3),
            tilt_degrees=90,
        )
    )
    return Shape(
        "headphones",
        (
            Part(union(arch, arms), mottled((0.2, 0.2, 0.24), 0.3)),
            Part(cups, stripes((0.75, 0.24, 0.2), (0.24, 0.22, 0.24), (0, 1, 0), 0.08)),
        ),
        component_count=1,
        hole_count=0,
    )


def giraffe() -> Shape:
    """A toy giraffe."""
    body = blend(
        0.12,
        rod((-0.32, 0, -0.12), (0.2, 0, -0.04), 0.17, 0.19),
        rod((0.22, 0, 0.0), (0.46, 0, 0.66), 0.12, 0.06),
        rod((0.45, 0, 0.7), (0.66, 0, 0.6), 0.085, 0.05),
    )
    legs = mirrored(
        union(
            rod((0.24, 0.1, -0.1), (0.27, 0.13, -0.86), 0.065, 0.04),
            rod((-0.34, 0.1, -0.15), (-0.36, 0.13, -0.86), 0.07, 0.04),
        )
    )
    horns = mirrored(
        union(rod((0.42, 0.04, 0.74), (0.39, 0.06, 0.86), 0.024), rod((0.42, 0.06, 0.72), (0.38, 0.16, 0.75), 0.03))
    )
    tail = rod((-0.46, 0, -0.08), (-0.58, 0, -0.42), 0.022, 0.04)
    return Shape(
        "giraffe",
        (
            Part(blend(0.08, body, legs), checks((0.86, 0.68, 0.36), (0.55, 0.32, 0.14), 0.105)),
            Part(union(horns, tail), mottled((0.42, 0.26, 0.14), 0.2)),
        ),
        component_count=1,
        hole_count=0,
    )
