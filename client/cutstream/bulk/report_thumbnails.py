"""Small pictures for the report, kept as files beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    from PIL import Image, ImageOps
except ImportError as error:
    raise ImportError("the report needs Pillow: pip install cutstream[images]") from error

# Tiles are at most 240 CSS pixels wide; on screens with two pixels to one the loss is not seen in a contact sheet.
LONGEST_PX = 256
# WebP, because cutouts are transparent: 5 to 10 kB, where PNG takes 60.
_SUFFIX = ".webp"
_QUALITY = 80
# Of 0 to 6; 4 takes twice the time for 5% fewer bytes.
_EFFORT = 2
_NAME_DIGITS = 20
# Of 16-bit samples Pillow keeps the lower 8 bits.
_SIXTEEN_TO_EIGHT_BITS = 1 / 256


def make_thumbnails(sources: Sequence[Path | None], folder: Path) -> list[str | None]:
    """Makes a small picture of each source, in parallel, unless there is one that is not older than the source.

    Args:
        sources: images in any format that Pillow reads; None where there is none.
        folder: where the pictures go; it is made.

    Returns:
        For each source the picture's name in the folder; None where the source is missing or cannot be read.

    Raises:
        OSError: a picture cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Pillow lets go of the interpreter's lock while it decodes, resizes and encodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: None if source is None else _thumbnail(source, folder), sources))


def _thumbnail(source: Path, folder: Path) -> str | None:
    # By the relative path: report and images may be moved together.
    key = os.path.relpath(source, folder)
    target = folder / (hashlib.sha256(os.fsencode(key)).hexdigest()[:_NAME_DIGITS] + _SUFFIX)
    if _is_current(target, source):
        return target.name
    small = _shrunk(source)
    if small is None:
        return None
    temporary = target.with_name(f".{target.name}.part")
    small.save(temporary, format="WEBP", quality=_QUALITY, method=_EFFORT)
    temporary.replace(target)
    return target.name


def _is_current(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def _shrunk(source: Path) -> Image.Image | None:
    """The upright image at most `LONGEST_PX` long, RGB or RGBA; None when it cannot be read."""
    try:
        with Image.open(source) as image:
            if image.mode.startswith("I;16"):
                return _fitted(image.point(lambda sample: sample * _SIXTEEN_TO_EIGHT_BITS).convert("L"))
            return _fitted(image)
    except Exception:  # noqa: BLE001 - decoders raise what they like at damaged files, and the report is there to show them
        return None


def _fitted(image: Image.Image) -> Image.Image:
    # First of all: it makes the JPEG decoder itself deliver a fraction of the size.
    image.draft("RGB", (2 * LONGEST_PX, 2 * LONGEST_PX))
    upright = ImageOps.exif_transpose(image)
    colored = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    colored.thumbnail((LONGEST_PX, LONGEST_PX))
    return colored
