"""Objects and backgrounds that are drawn, so that their alpha and colours are known to the last strand.

Objects are straight colour (h, w, 3) and alpha (h, w), float32 in 0..1; backgrounds (h, w, 3) float32 in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Cutting = tuple[Floats, Floats]

SIDE_PX: Final = 900
# Strands are drawn hard on a grid this much finer and averaged: their soft edges are coverage.
SUPERSAMPLING: Final = 3
# Lights out of focus have no detail: they are drawn at about this size and enlarged.
BOKEH_SIDE_PX: Final = 512


def glass_vessel(profile: Callable[[Floats], Floats], tint: tuple[float, float, float], body: float) -> Cutting:
    """A vessel of tinted glass: `profile` gives its radius (of half the side) at heights 0 (top) to 1.

    Glass is thin where one looks straight through it (alpha `body`) and thick at its outline; a highlight is opaque.
    """
    y, x = _grid()
    radius = np.maximum(profile(y), 1e-3)
    across = np.abs(x) / radius
    inside = np.clip((1 - across) * radius * SIDE_PX / 2, 0, 1)
    alpha = body + (0.95 - body) * np.clip(across, 0, 1) ** 5
    highlight = np.exp(-(((x / radius + 0.45) / 0.08) ** 2)) * (np.abs(y - 0.6) < 0.28)
    shade = (1 - 0.35 * y)[..., np.newaxis] * np.array(tint, np.float32)
    colour = shade + (1 - shade) * highlight[..., np.newaxis]
    alpha = np.maximum(alpha, 0.9 * highlight) * inside
    return _trim(colour, alpha)


def jellyfish(seed: int) -> Cutting:
    """A translucent dome with tentacles of strands."""
    rng = np.random.default_rng(seed)
    y, x = _grid()
    distance = np.sqrt((x / 0.7) ** 2 + ((y - 0.4) / 0.36) ** 2)
    dome = np.clip((1 - distance) * 120, 0, 1) * (y < 0.42)
    alpha = dome * (0.35 + 0.6 * np.clip(distance, 0, 1) ** 4)
    colour = np.stack([0.55 + 0.4 * y, 0.5 - 0.2 * y, 0.9 - 0.1 * y], axis=-1)
    strands = [
        (_wave(rng, (side * 0.6, 0.4), (side * 0.6 + rng.normal() * 0.15, rng.uniform(0.7, 0.98))), (0.9, 0.55, 0.8), 5)
        for side in np.linspace(-1, 1, 26)
    ]
    strand_colour, strand_alpha = _strands(strands)
    return _trim(*_over((colour, alpha), (strand_colour, 0.7 * strand_alpha)))


def fur_ball(seed: int) -> Cutting:
    """A round animal: a solid body under strands that stand off on all sides."""
    rng = np.random.default_rng(seed)
    strands = []
    for _ in range(2600):
        angle, start = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.62)
        end = start + rng.uniform(0.1, 0.33)
        direction = np.array([np.sin(angle), 0.5 * np.cos(angle)])
        brown = np.array([0.62, 0.42, 0.22]) * rng.uniform(0.45, 1.2)
        middle = np.array([0, 0.5])
        strands.append((_wave(rng, middle + start * direction, middle + end * direction, 0.01), tuple(brown), 2))
    y, x = _grid()
    body = np.clip((0.62 - np.sqrt(x**2 + (2 * y - 1) ** 2)) * 300, 0, 1)
    return _trim(*_over((np.broadcast_to(np.float32([0.4, 0.26, 0.13]), (*y.shape, 3)), body), _strands(strands)))


def grass_tuft(seed: int) -> Cutting:
    """Blades that fan out from a pot."""
    rng = np.random.default_rng(seed)
    strands = []
    for _ in range(260):
        lean = rng.normal() * 0.45
        green = np.array([0.35, 0.62, 0.2]) * rng.uniform(0.5, 1.3)
        strands.append((_bow((rng.normal() * 0.1, 0.75), (lean, rng.uniform(0.03, 0.4)), lean), tuple(green), 4))
    y, x = _grid()
    pot = np.clip((0.34 - 0.25 * (y - 0.72) - np.abs(x)) * 300, 0, 1) * (y > 0.72) * (y < 0.97)
    shade = (1 - 0.6 * np.abs(x))[..., np.newaxis] * np.float32([0.72, 0.36, 0.25])
    return _trim(*_over(_strands(strands), (shade, pot)))


def dandelion(seed: int) -> Cutting:
    """A seed head: a stem, a core, and filaments that end in stars."""
    rng = np.random.default_rng(seed)
    strands: list[tuple[Floats, tuple[float, ...], int]] = [(_bow((0.1, 0.99), (0, 0.4), 0.1), (0.45, 0.55, 0.25), 26)]
    middle = np.array([0, 0.37])
    for _ in range(330):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.62)
        direction = np.array([np.sin(angle), 0.5 * np.cos(angle)])
        tip = middle + reach * direction
        white = (0.93, 0.92, 0.86)
        strands.append((_wave(rng, middle, tip, 0.004), white, 2))
        for ray in rng.uniform(0, 2 * np.pi, 7):
            end = tip + 0.07 * np.array([np.sin(ray), 0.5 * np.cos(ray)])
            strands.append((_wave(rng, tip, end, 0.0), white, 2))
    y, x = _grid()
    core = np.clip((0.12 - np.sqrt(x**2 + (2 * (y - 0.37)) ** 2)) * 300, 0, 1)
    return _trim(*_over(_strands(strands), (np.broadcast_to(np.float32([0.5, 0.38, 0.2]), (*y.shape, 3)), core)))


def wig(seed: int) -> Cutting:
    """A head of long wavy hair on a stand."""
    rng = np.random.default_rng(seed)
    strands = []
    for _ in range(1500):
        top = np.array([rng.normal() * 0.16, rng.uniform(0.05, 0.2)])
        side = np.sign(top[0]) * rng.uniform(0.15, 0.62)
        auburn = np.array([0.5, 0.2, 0.1]) * rng.uniform(0.4, 1.5)
        strands.append((_wave(rng, top, (side, rng.uniform(0.55, 0.9)), 0.035), tuple(auburn), 2))
    y, x = _grid()
    head = np.clip((0.33 - np.sqrt(x**2 + (1.5 * (y - 0.32)) ** 2)) * 300, 0, 1)
    stand = np.clip((0.1 + 0.25 * (y > 0.9) - np.abs(x)) * 300, 0, 1) * (y > 0.4) * (y < 0.97)
    skin = np.broadcast_to(np.float32([0.86, 0.78, 0.7]), (*y.shape, 3))
    return _trim(*_over((skin, np.maximum(head, stand)), _strands(strands)))


def _goblet(y: Floats) -> Floats:
    bowl = 0.5 * np.sqrt(np.clip(1 - ((y - 0.1) / 0.45) ** 2, 0, 1)) * (y > 0.03) * (y < 0.55)
    return np.maximum(np.maximum(bowl, 0.035 * ((y >= 0.5) & (y < 0.93))), 0.32 * ((y >= 0.93) & (y < 0.97)))


def _bottle(y: Floats) -> Floats:
    neck = 0.12 * ((y > 0.03) & (y < 0.35))
    shoulder = 0.12 + 0.2 * np.sin(np.clip((y - 0.25) / 0.2, 0, 1) * np.pi / 2)
    return np.where((y >= 0.25) & (y < 0.97), shoulder, neck)


DRAWN_OBJECTS: Final[Mapping[str, Mapping[str, Callable[[], Cutting]]]] = {
    "tuning": {
        "drawn_goblet": lambda: glass_vessel(_goblet, (0.55, 0.75, 0.9), 0.4),
        "drawn_fur_ball": lambda: fur_ball(1),
        "drawn_grass_tuft": lambda: grass_tuft(2),
    },
    "reporting": {
        "drawn_bottle": lambda: glass_vessel(_bottle, (0.3, 0.6, 0.35), 0.5),
        "drawn_jellyfish": lambda: jellyfish(3),
        "drawn_dandelion": lambda: dandelion(4),
        "drawn_wig": lambda: wig(5),
    },
}


def studio(rng: np.random.Generator, width: int, height: int) -> Floats:
    """A wall and a floor, each with a gradient, and the line where they meet."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wall, floor = rng.uniform(0.2, 0.95, 3), rng.uniform(0.2, 0.9, 3)
    is_floor = (y > rng.uniform(0.6, 0.8) * height)[..., np.newaxis]
    light = 0.75 + 0.35 * np.exp(-(((x / width - rng.uniform()) ** 2) + (y / height) ** 2))
    picture = np.where(is_floor, floor, wall) * light[..., np.newaxis]
    return np.clip(picture + rng.normal(0, 0.01, picture.shape), 0, 1).astype(np.float32)


def bokeh(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Lights out of focus at night."""
    reduction = max(1, max(width, height) // BOKEH_SIDE_PX)
    rows, columns = height // reduction, width // reduction
    picture = np.full((rows, columns, 3), rng.uniform(0.02, 0.15, 3), np.float32)
    for _ in range(90):
        disc = np.zeros((rows, columns), np.float32)
        middle = (int(rng.uniform(0, columns)), int(rng.uniform(0, rows)))
        cv2.circle(disc, middle, int(rng.uniform(0.01, 0.06) * max(rows, columns)), float(rng.uniform(0.1, 0.6)), -1)
        picture += disc[..., np.newaxis] * rng.uniform(0.2, 1, 3).astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.5)
    return np.clip(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)


def marble(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Clouds of noise at all scales between two colours."""
    noise = np.zeros((height, width), np.float32)
    for octave in range(2, 8):
        cells = rng.normal(size=(2**octave, 2**octave)).astype(np.float32)
        noise += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    share = np.clip((noise / noise.std() + 2) / 4, 0, 1)[..., np.newaxis]
    return np.float32(share * rng.uniform(0.5, 1, 3) + (1 - share) * rng.uniform(0, 0.5, 3))


DRAWN_BACKGROUNDS: Final[Mapping[str, tuple[Callable[[np.random.Generator, int, int], Floats], ...]]] = {
    "tuning": (studio,),
    "reporting": (bokeh, marble),
}


def _grid() -> tuple[Floats, Floats]:
    """Heights 0..1 and places across -1..1 of the pixels of a drawing."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
    return (y + 0.5) / SIDE_PX, 2 * (x + 0.5) / SIDE_PX - 1


def _wave(rng: np.random.Generator, start: npt.ArrayLike, end: npt.ArrayLike, width: float = 0.02) -> Floats:
    """A line of 24 points with a random sway."""
    along = np.linspace(0, 1, 24)[:, np.newaxis]
    points = np.asarray(start) * (1 - along) + np.asarray(end) * along
    points[:, 0] += width * np.sin(along[:, 0] * rng.uniform(2, 9) + rng.uniform(0, 6)) * along[:, 0]
    return points.astype(np.float32)


def _bow(start: npt.ArrayLike, end: npt.ArrayLike, lean: float) -> Floats:
    """A line that leans over the further it goes."""
    along = np.linspace(0, 1, 24)[:, np.newaxis]
    points = np.asarray(start) * (1 - along) + np.asarray(end) * along
    points[:, 0] += lean * (along[:, 0] ** 2 - along[:, 0])
    return points.astype(np.float32)


def _strands(strands: list[tuple[Floats, tuple[float, ...], int]]) -> Cutting:
    """Draws lines (points in grid units, colour, width in fine pixels), later ones on top."""
    side = SIDE_PX * SUPERSAMPLING
    colour, mask = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)
    for points, rgb, thickness in strands:
        pixels = np.rint((points * (0.5, 1) + (0.5, 0)) * side).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(mask, [pixels], isClosed=False, color=1.0, thickness=thickness)
        cv2.polylines(colour, [pixels], isClosed=False, color=tuple(min(c, 1.0) for c in rgb), thickness=thickness)
    size = (SIDE_PX, SIDE_PX)
    alpha = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    premultiplied = cv2.resize(colour * mask[..., np.newaxis], size, interpolation=cv2.INTER_AREA)
    return premultiplied / np.maximum(alpha, 1e-6)[..., np.newaxis], alpha


def _over(under: tuple[npt.ArrayLike, Floats], above: Cutting) -> Cutting:
    """Lays one drawing over another: straight colour and alpha of both together."""
    below_alpha = under[1] * (1 - above[1])
    alpha = above[1] + below_alpha
    colour = above[0] * above[1][..., np.newaxis] + np.asarray(under[0]) * below_alpha[..., np.newaxis]
    return np.float32(colour / np.maximum(alpha, 1e-6)[..., np.newaxis]), np.float32(alpha)


def _trim(colour: npt.ArrayLike, alpha: npt.ArrayLike) -> Cutting:
    return np.clip(np.float32(colour), 0, 1), np.clip(np.float32(alpha), 0, 1)
