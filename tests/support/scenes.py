"""Drawings whose exact alpha is known at every point, to be sent through the tiny network (alpha = red channel / 255).

A scene is a function of continuous source pixels, so that the truth of any crop at any size is drawn, not resampled.
Coordinates are those of the API: pixel i covers [i, i + 1), x to the right, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

# The network sees the whole image stretched to this square, so it knows nothing finer than 1/1024 of either side.
NETWORK_SIDE = 1024
GREEN, BLUE = 128, 64
# Of 1024 x 1024 and below: drawing larger ones from several points a pixel would take seconds.
LARGEST_SAMPLED_PX = NETWORK_SIDE**2
BAND_ROWS = 256


@dataclass(frozen=True)
class Rect:
    """A rectangle by its corner and size."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self):
        return self.left + self.width

    @property
    def bottom(self):
        return self.top + self.height

    @property
    def long_side(self):
        return max(self.width, self.height)


@dataclass(frozen=True)
class Scene:
    """A drawing of `width` x `height` pixels; `shape(x, y)` is its alpha, 0 to 1, at arrays of points."""

    width: int
    height: int
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @property
    def grain(self):
        """The smallest distances, in source pixels across and down, that survive the network's square."""
        return max(1.0, self.width / NETWORK_SIDE), max(1.0, self.height / NETWORK_SIDE)

    def alpha(self, crop=None, size=None, samples=4):
        """Area coverage of a crop (left, top, width, height) at a size (width, height); the whole at its own if None.

        What lies outside the picture is 0. A pixel is the mean of samples x samples points, which places an edge to
        half of 1/samples; pictures over a megapixel take its middle.
        """
        left, top, crop_width, crop_height = crop or (0, 0, self.width, self.height)
        width, height = size or (self.width, self.height)
        samples = samples if width * height <= LARGEST_SAMPLED_PX else 1
        x = left + (np.arange(width * samples) + 0.5) * crop_width / (width * samples)
        y = top + (np.arange(height * samples) + 0.5) * crop_height / (height * samples)
        out = np.empty((height, width), np.float32)
        for start in range(0, height, BAND_ROWS):
            rows = y[start * samples : (start + BAND_ROWS) * samples, np.newaxis]
            inside = (x >= 0) & (x < self.width) & (rows >= 0) & (rows < self.height)
            points = np.asarray(self.shape(x, rows), np.float32) * inside
            band = points.reshape(-1, samples, width, samples).mean(axis=(1, 3))
            out[start : start + BAND_ROWS] = band
        return out

    def picture(self):
        """The PNG file that shows the tiny network this alpha."""
        return red_picture(self.alpha())


def red_picture(mask):
    """A PNG whose red channel is the mask (h, w) in 0..1."""
    red = np.rint(np.asarray(mask, np.float64) * 255).astype(np.uint8)
    bgr = np.dstack([np.full_like(red, BLUE), np.full_like(red, GREEN), red])
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def rgba_picture(rgb, alpha):
    """A PNG of straight colour (h, w, 3) and alpha (h, w), of the type of the arrays: uint8 or uint16."""
    bgra = np.dstack([rgb[..., ::-1], alpha])
    return cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def box_of(mask, threshold):
    """The rectangle of the pixels above the threshold; None without any."""
    columns, rows = np.flatnonzero((mask > threshold).any(0)), np.flatnonzero((mask > threshold).any(1))
    if not columns.size:
        return None
    return Rect(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)


def centre_of_mass(mask, threshold):
    """The mean place of the pixels above the threshold, each weighted with its value, as (x, y)."""
    weights = np.where(mask > threshold, mask, 0).astype(np.float64)
    y, x = (np.arange(count) + 0.5 for count in mask.shape)
    return (weights.sum(0) @ x) / weights.sum(), (weights.sum(1) @ y) / weights.sum()


def smart_start(low, high, centre, side, margin):
    """Where a crop of `side` starts along one axis, by the rule of smart padding.

    Centred on the object's centre of mass, then moved by the least that leaves the margin beyond [low, high]; without
    room for both margins it is centred on [low, high].
    """
    earliest, latest = high + margin - side, low - margin
    if earliest > latest:
        return (low + high - side) / 2
    return min(max(centre - side / 2, earliest), latest)


def smart_crop(box, centre, padding=0.2, factor=1.5):
    """The square crop of smart padding around a Rect."""
    side = box.long_side * (1 + padding)
    margin_x = margin_y = padding / 4 * box.long_side
    if box.height > 1.5 * box.width:
        margin_x *= factor
    elif box.width > 1.5 * box.height:
        margin_y *= factor
    left = smart_start(box.left, box.right, centre[0], side, margin_x)
    top = smart_start(box.top, box.bottom, centre[1], side, margin_y)
    return Rect(left, top, side, side)


def network_mask(red, side=NETWORK_SIDE):
    """What the tiny network answers to a picture with this red channel (uint8), by Pillow: float32 (side, side)."""
    stretched = Image.fromarray(red).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(stretched, np.float32) / 255


def ellipse(x, y, centre, radii):
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1


def rectangle(x, y, left, top, right, bottom):
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def star(x, y, centre, radius):
    """A five-pointed star with tips of 36 degrees: at most one of its five edges' half planes is left."""
    angles = np.deg2rad(90 + 72 * np.arange(5))
    inner = radius * np.cos(np.deg2rad(72))
    beyond = [np.cos(a) * (x - centre[0]) + np.sin(a) * (y - centre[1]) > inner for a in angles]
    return np.sum(beyond, axis=0) <= 1


def curls(x, y, centre, head, length, count, thickness):
    """A head with curled strands of even thickness all around."""
    dx, dy = x - centre[0], y - centre[1]
    r = np.hypot(dx, dy)
    turns = np.arctan2(dy, dx) / (2 * np.pi) * count + (r - head) / length
    strands = (np.abs(turns - np.rint(turns)) * 2 * np.pi * r / count < thickness / 2) & (r < head + length)
    return strands | (r < head)
