"""Scenes with known truth: objects of known alpha composed over backgrounds, the same ones in every run.

Objects and backgrounds come in two splits that share none: what is tuned on one is reported on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.drawn import DRAWN_BACKGROUNDS, DRAWN_OBJECTS, Cutting, Floats
from examples.photos import photo_path

from cutstream_server.imaging.decode import decode_image

Split = Literal["tuning", "reporting"]

SEED: Final = 20261123
LONG_SIDES_PX: Final = (768, 1024, 1536, 2048)
ASPECTS: Final = (16 / 9, 3 / 2, 4 / 3, 1.0, 3 / 4, 9 / 16)
# The objects are at most 1100 px: enlarging them much more would blur the very edges that are measured.
MAX_ENLARGEMENT: Final = 1.25
# Below this enlargement a small picture of a texture is laid out in mirrored tiles instead.
MAX_BACKGROUND_ENLARGEMENT: Final = 2.5
# How much of a low-contrast background is the object's own mean colour.
LOW_CONTRAST_BLEND: Final = 0.8
JPEG_QUALITY: Final = 95
# Red and blue differ by less than this all over a grey picture.
GREY_WITHIN: Final = 0.02
PHOTO_BACKGROUNDS: Final = {"tuning": "ihc", "reporting": "hubble_deep_field"}


@dataclass(frozen=True)
class Condition:
    """What is special about a scene.

    Attributes:
        share: range of the object's long side / the photo's short side.
        place: where the object goes: anywhere, in the middle, into a corner's reach, or cut by the photo's border.
        fade: how much of the background is the object's mean colour.
        textured: take one of the busiest backgrounds.
        distractors: other objects, smaller and out of focus.
        blur: standard deviation of the lens's blur as a share of the long side.
        noise: standard deviation of the sensor's noise, of 255.
        jpeg_quality: of the file that the pipelines get.
        opacity: the object's own alpha is multiplied with a number from this range.
    """

    share: tuple[float, float] = (0.4, 0.8)
    place: Literal["anywhere", "middle", "corner", "border"] = "anywhere"
    fade: float = 0.0
    textured: bool = False
    distractors: int = 0
    blur: float = 0.0
    noise: float = 0.0
    jpeg_quality: int = JPEG_QUALITY
    opacity: tuple[float, float] = (1.0, 1.0)


CONDITIONS: Final = {
    "plain": Condition(),
    "small": Condition(share=(0.2, 0.32)),
    "large": Condition(share=(0.8, 0.9), place="middle"),
    "off_centre": Condition(share=(0.3, 0.5), place="corner"),
    "border": Condition(share=(0.5, 0.85), place="border"),
    "low_contrast": Condition(fade=LOW_CONTRAST_BLEND),
    "textured": Condition(share=(0.3, 0.8), textured=True),
    "distractors": Condition(share=(0.4, 0.65), place="middle", distractors=3),
    "blurred": Condition(blur=0.0016),
    "noisy": Condition(noise=9.0, jpeg_quality=40),
}
"""The conditions of the evaluation; over 150 scenes of 15 objects each object meets each of them once."""

EXTRA_CONDITIONS: Final = {"translucent": Condition(opacity=(0.4, 0.8))}


@dataclass(frozen=True)
class Scene:
    """One composed photo and its truth.

    Attributes:
        name: stable; says what the picture depends on.
        object_name: the object; scenes of one object are not independent.
        condition: a key of CONDITIONS.
        background: name of the picture or drawing behind it.
        rgb: (H, W, 3) uint8, as it would be without compression.
        alpha: (H, W) float32 in 0..1.
        foreground: (H, W, 3) float32 in 0..1, the object's straight colour where alpha > 0.
        jpeg_quality: of `data`.
    """

    name: str
    object_name: str
    condition: str
    background: str
    rgb: npt.NDArray[np.uint8]
    alpha: Floats
    foreground: Floats
    jpeg_quality: int

    @cached_property
    def data(self) -> bytes:
        """The file that the pipelines get: a JPEG without chroma subsampling."""
        options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return bytes(cv2.imencode(".jpg", cv2.cvtColor(self.rgb, cv2.COLOR_RGB2BGR), options)[1])

    @cached_property
    def decoded(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3): what the pipelines see of it."""
        return np.asarray(decode_image(self.data, max_pixels=self.alpha.size).rgb, np.uint8)


def compose_scenes(
    data: Path, count: int, split: Split, conditions: Sequence[str] = tuple(CONDITIONS)
) -> Iterator[Scene]:
    """Yield `count` scenes: objects in turn, and with each round the next condition.

    Args:
        data: folder with `rgba/` (objects with alpha) and `backgrounds/`; drawn ones and photos are added.
        count: how many.
        split: files with even or with odd places in the sorted list.
        conditions: names of CONDITIONS or EXTRA_CONDITIONS.

    Raises:
        FileNotFoundError: when `data` holds no objects or no backgrounds.
    """
    objects, backgrounds = _objects(data, split), _backgrounds(data, split)
    names = list(objects)
    offset = 0 if split == "tuning" else 1
    for index in range(count):
        turn = index % len(names)
        name = names[turn]
        condition = conditions[(turn + index // len(names)) % len(conditions)]
        rng = np.random.default_rng((SEED, offset, index))
        others = [objects[names[int(i)]] for i in rng.permutation(len(names)) if int(i) != turn]
        yield _compose(
            f"{split}-{index:03d}-{condition}-{name}", name, condition, objects[name], others, backgrounds, rng
        )


Load = Callable[[], Cutting]
Background = tuple[str, Callable[[np.random.Generator, int, int], Floats]]


def _objects(data: Path, split: Split) -> dict[str, Load]:
    found: dict[str, Load] = {path.stem: lambda path=path: _read_object(path) for path in _files(data / "rgba", split)}
    return found | {name: lru_cache(draw) for name, draw in DRAWN_OBJECTS[split].items()}


def _backgrounds(data: Path, split: Split) -> list[Background]:
    """The split's backgrounds, the busiest first."""
    files = [*_files(data / "backgrounds", split), photo_path(PHOTO_BACKGROUNDS[split])]
    files.sort(key=_business, reverse=True)
    pictures: list[Background] = [(path.stem, partial(_background, path)) for path in files]
    return pictures + [(draw.__name__, draw) for draw in DRAWN_BACKGROUNDS[split]]


def _files(folder: Path, split: Split) -> list[Path]:
    files = sorted(folder.glob("*.*"))[0 if split == "tuning" else 1 :: 2]
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}")
    return files


def _compose(
    name: str,
    object_name: str,
    condition_name: str,
    load: Load,
    others: list[Load],
    backgrounds: list[Background],
    rng: np.random.Generator,
) -> Scene:
    condition = {**CONDITIONS, **EXTRA_CONDITIONS}[condition_name]
    width, height = _canvas(rng)
    colour, alpha = _scaled(load(), rng.uniform(*condition.share) * min(width, height))
    background_name, draw = backgrounds[int(rng.integers(2 if condition.textured else len(backgrounds)))]
    background = draw(rng, width, height)
    mean = np.average(colour[alpha > 0.5 * alpha.max()], axis=0).astype(np.float32)
    background = (1 - condition.fade) * background + np.float32(condition.fade) * mean
    for other in others[: condition.distractors]:
        background = _with_distractor(background, other(), max(alpha.shape), rng)
    placed_colour, placed_alpha = _place(
        colour, alpha * np.float32(rng.uniform(*condition.opacity)), width, height, condition.place, rng
    )
    if condition.blur:
        sigma = condition.blur * max(width, height)
        background, placed_colour, placed_alpha = _blurred(background, placed_colour, placed_alpha, sigma)
    weight = placed_alpha[:, :, np.newaxis]
    picture = 255 * (weight * placed_colour + (1 - weight) * background)
    if condition.noise:
        picture += rng.normal(0, condition.noise, picture.shape)
    rgb = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return Scene(
        name, object_name, condition_name, background_name, rgb, placed_alpha, placed_colour, condition.jpeg_quality
    )


def _canvas(rng: np.random.Generator) -> tuple[int, int]:
    long_side, aspect = int(rng.choice(LONG_SIDES_PX)), float(rng.choice(ASPECTS))
    if aspect >= 1:
        return long_side, round(long_side / aspect)
    return round(long_side * aspect), long_side


def _place(
    colour: Floats, alpha: Floats, width: int, height: int, place: str, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Put the object on a transparent canvas; at the border up to a quarter of it is cut off."""
    rows, columns = alpha.shape
    free_x, free_y = width - columns, height - rows
    x, y = rng.uniform(size=2)
    if place == "middle":
        x, y = 0.4 + 0.2 * x, 0.4 + 0.2 * y
    if place in ("corner", "border"):
        x, y = (reach / 10 if reach < 0.5 else 0.9 + reach / 10 for reach in (x, y))
    left, top = round(x * free_x), round(y * free_y)
    if place == "border":
        cut = rng.uniform(0.05, 0.25)
        if rng.uniform() < 0.5:
            left = round(-cut * columns) if x < 0.5 else round(width - (1 - cut) * columns)
        else:
            top = round(-cut * rows) if y < 0.5 else round(height - (1 - cut) * rows)
    shift = np.float32([[1, 0, left], [0, 1, top]])
    return tuple(cv2.warpAffine(plane, shift, (width, height), flags=cv2.INTER_NEAREST) for plane in (colour, alpha))


def _with_distractor(background: Floats, other: Cutting, long_side: float, rng: np.random.Generator) -> Floats:
    """Stand another object, smaller and out of focus, near the picture's edge."""
    height, width = background.shape[:2]
    colour, alpha = _scaled(other, rng.uniform(0.3, 0.5) * long_side)
    colour, alpha = _place(colour, alpha, width, height, "corner", rng)
    blurred, colour, alpha = _blurred(background, colour, alpha, 0.003 * max(width, height))
    return blurred * (1 - alpha[..., np.newaxis]) + colour * alpha[..., np.newaxis]


def _blurred(background: Floats, colour: Floats, alpha: Floats, sigma: float) -> tuple[Floats, Floats, Floats]:
    """The three parts of a picture seen through a lens out of focus: mixing them gives the blurred picture exactly."""
    weight = alpha[..., np.newaxis]
    blur = [cv2.GaussianBlur(part, (0, 0), sigma) for part in (background * (1 - weight), colour * weight, alpha)]
    soft = np.clip(blur[2], 0, 1)
    soft[soft < 1e-3] = 0
    behind = blur[0] / np.maximum(1 - blur[2], 1e-3)[..., np.newaxis]
    return behind, np.clip(blur[1] / np.maximum(blur[2], 1e-6)[..., np.newaxis], 0, 1), soft


def _read_object(path: Path) -> Cutting:
    rgba = cv2.cvtColor(_read(path, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    return rgba[:, :, :3], rgba[:, :, 3]


def _scaled(drawing: Cutting, long_side: float) -> Cutting:
    """Cut an object to its box and give it the long side wanted, or what enlargement allows."""
    colour, alpha = drawing
    x, y, width, height = cv2.boundingRect((alpha > 0.02).astype(np.uint8))
    inside = np.s_[y : y + height, x : x + width]
    premultiplied = np.dstack([colour[inside] * alpha[inside][..., np.newaxis], alpha[inside]])
    scale = min(long_side / max(width, height), MAX_ENLARGEMENT)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    alpha = np.clip(planes[:, :, 3], 0, 1)
    straight = planes[:, :, :3] / np.maximum(alpha, 1e-6)[:, :, np.newaxis]
    return np.clip(straight, 0, 1).astype(np.float32), alpha


def _background(path: Path, rng: np.random.Generator, width: int, height: int) -> Floats:
    """Read a picture, tint it if it is grey, and let a part of it cover the canvas."""
    rgb = cv2.cvtColor(_read(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    if np.abs(rgb[..., 0] - rgb[..., 2]).max() < GREY_WITHIN:
        rgb = np.clip(rgb * rng.uniform(0.6, 1.2, 3).astype(np.float32), 0, 1)
    scale = max(width / rgb.shape[1], height / rgb.shape[0])
    if scale > MAX_BACKGROUND_ENLARGEMENT:
        rgb = np.vstack([np.hstack([rgb, rgb[:, ::-1]]), np.hstack([rgb[::-1], rgb[::-1, ::-1]])])
        scale /= 2
    size = (max(width, round(rgb.shape[1] * scale)), max(height, round(rgb.shape[0] * scale)))
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if rng.uniform() < 0.5:
        rgb = rgb[:, ::-1]
    left, top = int(rng.integers(size[0] - width + 1)), int(rng.integers(size[1] - height + 1))
    return np.ascontiguousarray(rgb[top : top + height, left : left + width])


def _business(path: Path) -> float:
    """How much a background changes from pixel to pixel at the size at which a network sees it."""
    grey = cv2.resize(_read(path, cv2.IMREAD_GRAYSCALE), (256, 256), interpolation=cv2.INTER_AREA)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def _read(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise FileNotFoundError(f"cannot read {path}")
    return np.asarray(pixels, np.uint8)
