"""Things made by code that are found outdoors."""

from __future__ import annotations

import numpy as np
from benchmarks.reconstruction.paints import checks, marble, mottled, stripes, wood
from benchmarks.reconstruction.shapes import Part, Shape
from benchmarks.reconstruction.solids import (
    Solid,
    around,
    blend,
    box,
    difference,
    lathe,
    mirrored,
    moved,
    ring,
    rod,
    sphere,
    union,
)


def lantern() -> Shape:
    """A lantern of thin bars around a candle."""
    frame = lathe([(0, -0.82), (0.46, -0.82), (0.46, -0.72), (0.4, -0.68), (0, -0.68)])
    roof = lathe([(0, 0.42), (0.5, 0.42), (0.5, 0.48), (0.12, 0.72), (0, 0.72)])
    bars = around(10, rod((0.4, 0, -0.72), (0.4, 0, 0.46), 0.028))
    loop = ring((0, 0, 0.83), (0, 1, 0), 0.11, 0.028)
    candle = lathe([(0, -0.7), (0.13, -0.7), (0.13, -0.12), (0, -0.12)])
    return Shape(
        "lantern",
        (
            Part(union(frame, roof, bars, loop), mottled((0.24, 0.26, 0.3), 0.25)),
            Part(union(candle, rod((0, 0, -0.15), (0.01, 0, -0.03), 0.02)), mottled((0.9, 0.82, 0.6))),
        ),
        component_count=1,
        hole_count=10,
    )


def wheel() -> Shape:
    """A wheel with fourteen spokes."""

    def upright(solid: Solid) -> Solid:
        return moved(solid, (0, 0, 0), tilt_degrees=90, turn_degrees=35)

    hub = lathe([(0, -0.13), (0.07, -0.13), (0.11, 0), (0.07, 0.13), (0, 0.13)])
    spokes = around(14, rod((0.05, 0, 0), (0.76, 0, 0), 0.022))
    return Shape(
        "wheel",
        (
            Part(upright(union(hub, spokes)), mottled((0.72, 0.7, 0.66), 0.2)),
            Part(upright(ring((0, 0, 0), (0, 0, 1), 0.76, 0.04)), wood((0.8, 0.55, 0.25), (0.55, 0.32, 0.13))),
            Part(upright(ring((0, 0, 0), (0, 0, 1), 0.85, 0.075)), mottled((0.16, 0.16, 0.17), 0.3)),
        ),
        component_count=1,
        hole_count=14,
    )


def watering_can() -> Shape:
    """A hollow can with spout, rose and handle."""
    body = lathe(
        [(0, -0.6), (0.42, -0.6), (0.36, 0.15), (0.28, 0.2), (0.24, 0.15), (0.3, 0.1), (0.36, -0.5), (0, -0.5)]
    )
    spout = rod((0.3, 0, -0.35), (0.82, 0, 0.36), 0.08, 0.04)
    rose = moved(
        lathe([(0, 0), (0.05, 0), (0.13, 0.08), (0.13, 0.1), (0, 0.1)]),
        (0.8, 0, 0.34),
        tilt_degrees=-50,
        turn_degrees=90,
    )
    full = lathe([(0, -0.6), (0.4, -0.58), (0.34, 0.15), (0, 0.15)])
    handle = difference(ring((-0.42, 0, -0.17), (0, 1, 0), 0.3, 0.038), full)
    return Shape(
        "watering_can",
        (
            Part(union(body, spout), mottled((0.2, 0.5, 0.28), 0.2)),
            Part(union(rose, handle), mottled((0.75, 0.55, 0.2))),
        ),
        component_count=1,
        hole_count=1,
    )


def aeroplane() -> Shape:
    """A toy aeroplane with thin wings."""
    fuselage = blend(0.1, rod((-0.82, 0, 0.1), (0.3, 0, 0), 0.05, 0.16), rod((0.3, 0, 0), (0.62, 0, -0.01), 0.16, 0.12))
    cockpit = sphere((0.22, 0, 0.12), 0.13)
    wings = box((0.18, 0, -0.06), (0.17, 0.92, 0.025), 0.02)
    tail = union(
        box((-0.76, 0, 0.12), (0.1, 0.34, 0.022), 0.02),
        moved(box((0, 0, 0), (0.09, 0.022, 0.17), 0.02), (-0.79, 0, 0.26)),
    )
    propeller = union(rod((0.7, 0, 0), (0.78, 0, 0), 0.05), box((0.76, 0, 0), (0.022, 0.05, 0.3), 0.02))
    gear = mirrored(
        union(rod((0.3, 0.08, -0.1), (0.34, 0.24, -0.32), 0.025), ring((0.34, 0.25, -0.36), (0, 1, 0), 0.05, 0.05))
    )
    return Shape(
        "aeroplane",
        (
            Part(fuselage, stripes((0.82, 0.2, 0.16), (0.92, 0.88, 0.78), (1, 0, 0), 0.3)),
            Part(cockpit, mottled((0.25, 0.4, 0.5))),
            Part(union(wings, tail), checks((0.9, 0.72, 0.2), (0.82, 0.24, 0.16), 0.23)),
            Part(union(propeller, gear), mottled((0.3, 0.22, 0.16), 0.2)),
        ),
        component_count=1,
        hole_count=0,
    )


def chain() -> Shape:
    """Three links that hold each other without touching."""
    paints = (
        mottled((0.78, 0.6, 0.22), 0.25),
        marble((0.7, 0.72, 0.76), (0.2, 0.24, 0.32)),
        wood((0.7, 0.4, 0.25), (0.4, 0.18, 0.1)),
    )
    links = (
        ring((-0.44, 0, 0.05), (0, 1, 0.2), 0.32, 0.07),
        ring((0, 0, 0), (0.15, 0.2, 1), 0.32, 0.07),
        ring((0.44, 0, -0.05), (0, 1, -0.3), 0.32, 0.07),
    )
    return Shape("chain", tuple(map(Part, links, paints)), component_count=3, hole_count=3)


def ladder() -> Shape:
    """A ladder with six rungs."""
    rails = mirrored(box((0, 0.32, 0), (0.035, 0.04, 0.9), 0.015))
    rungs = union(*(rod((0, -0.32, z), (0, 0.32, z), 0.03) for z in np.linspace(-0.7, 0.7, 6)))
    return Shape(
        "ladder",
        (
            Part(moved(rails, (0, 0, 0), tilt_degrees=8, turn_degrees=20), wood((0.8, 0.6, 0.35), (0.55, 0.35, 0.16))),
            Part(moved(rungs, (0, 0, 0), tilt_degrees=8, turn_degrees=20), mottled((0.5, 0.3, 0.14), 0.2)),
        ),
        component_count=1,
        hole_count=5,
    )
