"""Scenes with known truth: objects of known alpha composed over photographs, the same ones in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

Split = Literal["tuning", "reporting"]
Kind = Literal["plain", "low_contrast", "translucent"]

SEED: Final = 20261123
# Photos of common sizes; the network sees 1024 x 1024 of each.
LONG_SIDES_PX: Final = (1024, 1536, 2048)
ASPECTS: Final = (4 / 3, 1.0, 3 / 4, 3 / 2)
# Long side of the object's box / short side of the photo. The objects are at most 1000 px: enlarging them much more
# would blur the very edges that are measured.
OBJECT_SHARES: Final = (0.4, 0.9)
MAX_ENLARGEMENT: Final = 1.25
# How much of a low-contrast background is the object's own mean colour.
LOW_CONTRAST_BLEND: Final = 0.8
TRANSLUCENT_OPACITIES: Final = (0.4, 0.8)


@dataclass(frozen=True)
class Scene:
    """One composed photo and its truth.

    Attributes:
        name: stable; holds all that the picture depends on.
        rgb: (H, W, 3) uint8.
        alpha: (H, W) float32 in 0..1.
        foreground: (H, W, 3) float32 in 0..1, the object's straight colour where alpha > 0.
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.float32]
    foreground: npt.NDArray[np.float32]


def compose_scenes(data: Path, count: int, split: Split, kind: Kind = "plain") -> Iterator[Scene]:
    """Yield `count` scenes; the two splits share no object.

    Args:
        data: folder with `rgba/` (objects with alpha) and `backgrounds/`.
        count: how many.
        split: the objects with even or with odd places in the sorted list.
        kind: "low_contrast" fades the background into the object's mean colour, "translucent" draws the object
            at an opacity of 0.4 to 0.8.

    Raises:
        FileNotFoundError: when `data` holds no objects or no backgrounds.
    """
    objects = sorted((data / "rgba").glob("*.*"))[0 if split == "tuning" else 1 :: 2]
    backgrounds = sorted((data / "backgrounds").glob("*.*"))
    if not objects or not backgrounds:
        raise FileNotFoundError(f"no rgba/ and backgrounds/ with pictures in {data}")
    offset = 0 if split == "tuning" else 1
    for index in range(count):
        rng = np.random.default_rng((SEED, offset, index))
        object_path = objects[index % len(objects)]
        background_path = backgrounds[int(rng.integers(len(backgrounds)))]
        rgb, alpha, foreground = _compose(object_path, background_path, kind, rng)
        yield Scene(f"{kind}-{split}-{index}-{object_path.stem}-{background_path.stem}", rgb, alpha, foreground)


def _compose(
    object_path: Path, background_path: Path, kind: Kind, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    width, height = _canvas(rng)
    colour, alpha = _object(object_path, rng.uniform(*OBJECT_SHARES) * min(width, height))
    background = _background(background_path, width, height)
    if kind == "low_contrast":
        mean = np.average(colour[alpha > 0.5], axis=0)
        background = (1 - LOW_CONTRAST_BLEND) * background + np.float32(LOW_CONTRAST_BLEND) * mean
    if kind == "translucent":
        alpha *= np.float32(rng.uniform(*TRANSLUCENT_OPACITIES))
    rows, columns = alpha.shape
    left, top = int(rng.integers(width - columns + 1)), int(rng.integers(height - rows + 1))
    placed = np.s_[top : top + rows, left : left + columns]
    all_alpha = np.zeros((height, width), np.float32)
    all_alpha[placed] = alpha
    foreground = np.zeros((height, width, 3), np.float32)
    foreground[placed] = colour
    weight = all_alpha[:, :, np.newaxis]
    rgb = np.rint(255 * (weight * foreground + (1 - weight) * background)).astype(np.uint8)
    return rgb, all_alpha, foreground


def _canvas(rng: np.random.Generator) -> tuple[int, int]:
    long_side, aspect = int(rng.choice(LONG_SIDES_PX)), float(rng.choice(ASPECTS))
    if aspect >= 1:
        return long_side, round(long_side / aspect)
    return round(long_side * aspect), long_side


def _object(path: Path, long_side: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Read an object, cut to its box, with the long side wanted: straight colour and alpha, 0..1."""
    rgba = cv2.cvtColor(_read(path, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    x, y, width, height = cv2.boundingRect((rgba[:, :, 3] > 0.02).astype(np.uint8))
    rgba = rgba[y : y + height, x : x + width]
    scale = min(long_side / max(width, height), MAX_ENLARGEMENT)
    rgba[:, :, :3] *= rgba[:, :, 3:]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    alpha = np.clip(rgba[:, :, 3], 0, 1)
    colour = np.clip(rgba[:, :, :3], 0, alpha[:, :, np.newaxis]) / np.maximum(alpha, 1e-6)[:, :, np.newaxis]
    return colour.astype(np.float32), alpha


def _background(path: Path, width: int, height: int) -> npt.NDArray[np.float32]:
    """Read a picture and scale its middle to cover the canvas: (height, width, 3) in 0..1."""
    rgb = cv2.cvtColor(_read(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    scale = max(width / rgb.shape[1], height / rgb.shape[0])
    size = (max(width, round(rgb.shape[1] * scale)), max(height, round(rgb.shape[0] * scale)))
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.clip(rgb[top : top + height, left : left + width], 0, 1)


def _read(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise FileNotFoundError(f"cannot read {path}")
    return np.asarray(pixels, np.uint8)
