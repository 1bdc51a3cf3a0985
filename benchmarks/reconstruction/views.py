"""Photos of a shape from known places: rendered, laid over photographs, kept as JPEG with their true alpha."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.reconstruction import cameras, indoor, outdoor, paints, render, shapes, solids
from benchmarks.reconstruction.cameras import Camera
from benchmarks.reconstruction.shapes import Shape
from examples.photos import photo_path

SEED: Final = 20261123
MOST_VIEWS: Final = 12
# Any first few of golden-angle turns are spread well, and no two of them see the shape from opposite sides, where
# silhouettes repeat.
TURN_DEGREES: Final = 137.508
# From the ground the hollow under a seat is seen, from above the one in a bowl.
ELEVATIONS_DEGREES: Final = (0.0, 20.0, 45.0)
DISTANCE: Final = 4.0
SIZES_PX: Final = ((1024, 768), (896, 896), (768, 1024), (1000, 800))
# Diameter of the unit sphere around the shape / short side of the photo.
SHARES: Final = (0.7, 0.98)
# A lens focussed on the object leaves what is behind it a little soft.
DEFOCUS_PX: Final = (0.0, 2.5)
NOISE_SIGMA: Final = 2.0
JPEG_QUALITY: Final = 92
# For use without a folder of backgrounds: what comes with scikit-image and shows no object of its own.
TEXTURES: Final = ("brick", "grass", "gravel", "moon", "hubble_deep_field", "ihc")

_MADE_BY: Final = (cameras, indoor, outdoor, paints, render, shapes, solids)


@dataclass(frozen=True)
class View:
    """One photo of a shape.

    Attributes:
        name: of the shape and the view, stable.
        camera: where it was taken from.
        image: JPEG.
        truth: (H, W, 4) uint8, the object alone: straight colour and alpha.
    """

    name: str
    camera: Camera
    image: bytes
    truth: npt.NDArray[np.uint8]


def background_paths(data: Path | None) -> list[Path]:
    """The photos of DATA/backgrounds, or textures that come with scikit-image.

    Raises:
        FileNotFoundError: when `data` has no backgrounds.
    """
    if data is None:
        return [photo_path(name) for name in TEXTURES]
    paths = sorted((data / "backgrounds").glob("*.*"))
    if not paths:
        raise FileNotFoundError(f"{data / 'backgrounds'} holds no pictures; without --data textures take their place")
    return paths


def take_views(shape: Shape, count: int, backgrounds: Sequence[Path], kept: Path) -> Iterator[View]:
    """Yield the first `count` views of a shape, the same in every run; renderings are kept in the folder `kept`."""
    for index in range(count):
        rng = np.random.default_rng([SEED, index, *shape.name.encode()])
        camera = _camera(index, rng)
        truth = _rendered(shape, camera, kept)
        background = _background(backgrounds[int(rng.integers(len(backgrounds)))], camera, rng)
        image = _photograph(truth, background, rng)
        yield View(f"{shape.name}-{index:02}", camera, image, truth)


def _camera(index: int, rng: np.random.Generator) -> Camera:
    width, height = SIZES_PX[int(rng.integers(len(SIZES_PX)))]
    diameter = rng.uniform(*SHARES) * min(width, height)
    # The unit sphere looks larger than its diameter at the middle's distance: its outline is nearer to the eye.
    focal = diameter / 2 * np.sqrt(DISTANCE**2 - 1)
    slack_x, slack_y = (width - diameter) / 2, (height - diameter) / 2
    centre = (width / 2 + rng.uniform(-slack_x, slack_x), height / 2 + rng.uniform(-slack_y, slack_y))
    return Camera.orbiting(
        20 + index * TURN_DEGREES,
        ELEVATIONS_DEGREES[index % len(ELEVATIONS_DEGREES)],
        DISTANCE,
        focal_px=float(focal),
        centre_px=centre,
        width_px=width,
        height_px=height,
    )


def _rendered(shape: Shape, camera: Camera, kept: Path) -> npt.NDArray[np.uint8]:
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in _MADE_BY)
    digest = hashlib.sha256(sources + repr((shape.name, camera)).encode()).hexdigest()[:24]
    path = kept / f"{shape.name}-{digest}.npy"
    if not path.exists():
        made = render.render(shape, camera)
        kept.mkdir(parents=True, exist_ok=True)
        np.save(path, np.rint(255 * np.dstack([made.foreground, made.alpha])).astype(np.uint8))
    truth: npt.NDArray[np.uint8] = np.load(path)
    return truth


def _background(path: Path, camera: Camera, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A part of a photo of the view's size, (H, W, 3) in 0..1."""
    read = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if read is None:
        raise FileNotFoundError(f"{path} is no picture that OpenCV reads")
    photo: npt.NDArray[np.float32] = np.asarray(read, np.float32) / np.float32(255)
    width, height = camera.width_px, camera.height_px
    scale = max(width / photo.shape[1], height / photo.shape[0])
    size = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    photo = np.asarray(cv2.resize(photo, size, interpolation=method), np.float32)
    left, top = int(rng.integers(size[0] - width + 1)), int(rng.integers(size[1] - height + 1))
    part = photo[top : top + height, left : left + width]
    softness = rng.uniform(*DEFOCUS_PX)
    return np.clip(cv2.GaussianBlur(part, (0, 0), softness) if softness > 0.1 else part, 0, 1)


def _photograph(truth: npt.NDArray[np.uint8], background: npt.NDArray[np.float32], rng: np.random.Generator) -> bytes:
    weight = truth[..., 3:].astype(np.float32) / 255
    seen = weight * truth[..., :3] + (1 - weight) * 255 * background
    noisy = seen + np.float32(NOISE_SIGMA) * rng.standard_normal(seen.shape, np.float32)
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
