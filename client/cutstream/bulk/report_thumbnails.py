"""Small pictures for the report, kept as files beside it."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

try:
    from PIL import Image, ImageOps
except ImportError as error:
    raise ImportError("the report needs Pillow: pip install pillow") from error

# Tiles are some 170 CSS pixels wide; on screens with two pixels to one the loss is not seen in a contact sheet.
LONGEST_PX = 256
# WebP, because cutouts are transparent: some 12 kB, where PNG takes 60.
_SUFFIX = ".webp"
_QUALITY = 80
# Of 0 to 6; 4 takes twice the time for 5% fewer bytes.
_EFFORT = 2
_NAME_DIGITS = 20
_OURS = re.compile(rf"\.?[0-9a-f]{{{_NAME_DIGITS}}}\.webp(\.part)?")
# What servers read. Others that Pillow knows run programs (EPS), and no image of a run needs them.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Decoded at once by each thread, at most 256 MB; a JPEG counts after the decoder's own reduction.
_MOST_PIXELS = 1 << 26
# Of 16-bit samples Pillow keeps the lower 8 bits.
_SIXTEEN_TO_EIGHT_BITS = 1 / 256


@dataclass(frozen=True)
class Picture:
    """An image to make small."""

    path: Path
    version: str
    """The same as long as the image is the same, whatever its path."""

    @property
    def name(self) -> str:
        """Of the small picture's file."""
        return hashlib.sha256(self.version.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_DIGITS] + _SUFFIX


def make_thumbnails(pictures: Sequence[Picture | None], folder: Path) -> list[str | None]:
    """Makes the small pictures that the folder lacks, in parallel, and removes those that are no longer wanted.

    Args:
        pictures: images of any size; None where there is none.
        folder: where the small ones go; it is made. Other files in it stay.

    Returns:
        For each picture the name in the folder; None where the image is missing or cannot be read.

    Raises:
        OSError: a small picture cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Not twice at once: equal cutouts have one small picture.
    paths = {picture.name: picture.path for picture in pictures if picture is not None}
    console = Console(stderr=True)
    # Pillow lets go of the interpreter's lock while it decodes, resizes and encodes; of damaged files it warns.
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pool.map(lambda name: _make(paths[name], folder / name), paths)
        shown = track(made, "report", len(paths), console=console, transient=True, disable=not console.is_terminal)
        is_there = dict(zip(paths, shown, strict=True))
    for file in folder.iterdir():
        if _OURS.fullmatch(file.name) and not is_there.get(file.name):
            file.unlink()
    return [picture.name if picture is not None and is_there[picture.name] else None for picture in pictures]


def _make(source: Path, target: Path) -> bool:
    """Whether the small picture is there."""
    if target.exists():
        return True
    small = _shrunk(source)
    if small is None:
        return False
    temporary = target.with_name(f".{target.name}.part")
    small.save(temporary, format="WEBP", quality=_QUALITY, method=_EFFORT)
    temporary.replace(target)
    return True


def _shrunk(source: Path) -> Image.Image | None:
    """The upright image at most `LONGEST_PX` long, RGB or RGBA; None when it cannot be read."""
    try:
        with Image.open(source, formats=_FORMATS) as image:
            # First of all: it makes the JPEG decoder itself deliver a fraction of the size.
            image.draft("RGB", (2 * LONGEST_PX, 2 * LONGEST_PX))
            if image.width * image.height > _MOST_PIXELS:
                return None
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = upright.point(lambda sample: sample * _SIXTEEN_TO_EIGHT_BITS).convert("L")
            colored = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
            colored.thumbnail((LONGEST_PX, LONGEST_PX))
            return colored
    except Exception:  # noqa: BLE001 - decoders raise what they like at damaged files, and the report is there to show them
        return None
