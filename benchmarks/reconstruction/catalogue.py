"""All shapes, in an order of which any first few are a mix, for runs that take only some."""

from __future__ import annotations

from typing import Final

from benchmarks.reconstruction.indoor import chair, giraffe, headphones, lamp, mug, vase
from benchmarks.reconstruction.outdoor import aeroplane, chain, ladder, lantern, watering_can, wheel

SHAPES: Final = (
    mug(),
    chair(),
    giraffe(),
    lantern(),
    vase(),
    aeroplane(),
    lamp(),
    wheel(),
    watering_can(),
    headphones(),
    chain(),
    ladder(),
)
