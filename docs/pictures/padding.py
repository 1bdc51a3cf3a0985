"""Draws docs/pictures/padding.png for docs/framing.md with the framing code: `python docs/pictures/padding.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cutstream_server.imaging.framing import (
    ELONGATED_RATIO,
    SMART_MARGIN_SHARE,
    centre_of_mass,
    crop_box,
    foreground_box,
)
from cutstream_server.imaging.geometry import Box, CropBox, Point, Size
from cutstream_server.options import parse_options

TARGET = Path(__file__).with_name("padding.png")
# Each object is drawn with a long side of 200 px in the middle of a scene that its crop of 240 px cannot leave.
SCENE: Final = Size(300, 300)
LONG_SIDE_PX: Final = 200
HEADING_PX: Final = 34
NAMES_PX: Final = 84
LEGEND_PX: Final = 72
GAP_PX: Final = 14
# Colours are drawn with antialiasing; so many shades of them look the same and make a small file.
PALETTE_COLORS: Final = 64
PAPER, INK, OBJECT = "#ffffff", "#303030", "#b8bcc4"
BOX, CROP, MASS, ROOM = "#e08000", "#1060d0", "#d01030", "#e4f2e0"
DEFAULTS: Final = parse_options({})

Shape = Callable[[npt.NDArray[np.uint8]], object]


def sword(canvas: npt.NDArray[np.uint8]) -> None:
    """A blade upwards, heavy at the hilt."""
    cv2.fillPoly(canvas, [np.array([(150, 50), (157, 64), (157, 200), (143, 200), (143, 64)])], 255, cv2.LINE_AA)
    cv2.rectangle(canvas, (122, 200), (177, 211), 255, cv2.FILLED)
    cv2.rectangle(canvas, (144, 211), (155, 236), 255, cv2.FILLED)
    cv2.circle(canvas, (150, 240), 10, 255, cv2.FILLED, cv2.LINE_AA)


def hammer(canvas: npt.NDArray[np.uint8]) -> None:
    """A head at the top, over to one side, and a handle."""
    cv2.rectangle(canvas, (86, 50), (184, 104), 255, cv2.FILLED)
    cv2.fillPoly(canvas, [np.array([(184, 54), (213, 82), (213, 96), (184, 104)])], 255, cv2.LINE_AA)
    cv2.rectangle(canvas, (140, 104), (158, 249), 255, cv2.FILLED)


def ball(canvas: npt.NDArray[np.uint8]) -> None:
    """A disc."""
    cv2.circle(canvas, (150, 150), LONG_SIDE_PX // 2, 255, cv2.FILLED, cv2.LINE_AA)


OBJECTS: Final[tuple[tuple[str, Shape], ...]] = (("sword", sword), ("hammer", hammer), ("ball", ball))


def main() -> None:
    """Draws the picture."""
    columns = ("plain: centred on the box", "smart: as near to the centre of mass as the margins allow")
    width = NAMES_PX + len(columns) * (SCENE.width + GAP_PX)
    height = HEADING_PX + len(OBJECTS) * (SCENE.height + GAP_PX) + LEGEND_PX
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(columns):
        draw.text((NAMES_PX + column * (SCENE.width + GAP_PX), 10), heading, INK, font(11))
    for row, (name, shape) in enumerate(OBJECTS):
        top = HEADING_PX + row * (SCENE.height + GAP_PX)
        draw.text((8, top + SCENE.height // 2 - 10), name, INK, font(18))
        for column in range(len(columns)):
            sheet.paste(panel(shape, smart=column == 1), (NAMES_PX + column * (SCENE.width + GAP_PX), top))
    legend(draw, (NAMES_PX, height - LEGEND_PX))
    sheet.quantize(PALETTE_COLORS, dither=Image.Dither.NONE).save(TARGET, optimize=True)


def panel(shape: Shape, *, smart: bool) -> Image.Image:
    """One object in its scene with its box, centre of mass and crop."""
    canvas = np.zeros((SCENE.height, SCENE.width), np.uint8)
    shape(canvas)
    alpha = canvas.astype(np.float32) / np.float32(255)
    box = foreground_box(alpha, DEFAULTS.mask_threshold, SCENE)
    mass = centre_of_mass(alpha, DEFAULTS.mask_threshold, SCENE)
    if box is None or mass is None:
        raise ValueError("the shape is empty")
    crop = crop_box(
        box,
        mass,
        padding=DEFAULTS.padding_percentage,
        smart=smart,
        adaptive_factor=DEFAULTS.adaptive_padding_factor,
    )
    image = Image.new("RGB", SCENE, "#f4f4f4")
    draw = ImageDraw.Draw(image)
    draw.rectangle(edges(crop), fill=PAPER)
    if smart:
        draw.rectangle(edges(with_margins(box)), fill=ROOM)
    image.paste(OBJECT, (0, 0), Image.fromarray(canvas))
    draw.rectangle(edges(box), outline=BOX)
    draw.rectangle(edges(crop), outline=CROP, width=2)
    plus(draw, crop.center, CROP, 9)
    plus(draw, mass, MASS, 6)
    write_distances(draw, box, crop)
    return image


def with_margins(box: Box) -> Box:
    """The box and the margins that the smart crop keeps around it."""
    long_side = max(box.width, box.height)
    margin = SMART_MARGIN_SHARE * DEFAULTS.padding_percentage * long_side
    factor = DEFAULTS.adaptive_padding_factor
    x = margin * (factor if long_side > ELONGATED_RATIO * box.width else 1)
    y = margin * (factor if long_side > ELONGATED_RATIO * box.height else 1)
    return Box(box.left - x, box.top - y, box.right + x, box.bottom + y)


def edges(area: Box | CropBox) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, the far ones as the last pixels inside."""
    if isinstance(area, CropBox):
        area = Box(area.left, area.top, area.left + area.width, area.top + area.height)
    return area.left, area.top, area.right - 1, area.bottom - 1


def plus(draw: ImageDraw.ImageDraw, at: Point, color: str, reach: int) -> None:
    """A cross at a place."""
    draw.line((at.x - reach, at.y, at.x + reach, at.y), color, 2)
    draw.line((at.x, at.y - reach, at.x, at.y + reach), color, 2)


def write_distances(draw: ImageDraw.ImageDraw, box: Box, crop: CropBox) -> None:
    """From each edge of the box to the crop's, in percent of the long side, written outside the crop."""
    long_side = max(box.width, box.height)
    middle, right, bottom = crop.center, crop.left + crop.width, crop.top + crop.height
    for x, y, distance, anchor in (
        (crop.left - 3, middle.y, box.left - crop.left, "rm"),
        (right + 3, middle.y, right - box.right, "lm"),
        (middle.x, crop.top - 3, box.top - crop.top, "mb"),
        (middle.x, bottom + 3, bottom - box.bottom, "mt"),
    ):
        draw.text((x, y), f"{100 * distance / long_side:.0f}%", CROP, font(10), anchor=anchor)


def legend(draw: ImageDraw.ImageDraw, at: tuple[int, int]) -> None:
    """What the colours mean."""
    entries = (
        (BOX, "the object's box: alpha above the threshold"),
        (MASS, "centre of mass"),
        (CROP, "crop and its centre; percent of the long side"),
        (ROOM, "box and the margins that smart keeps"),
    )
    for index, (color, text) in enumerate(entries):
        x, y = at[0] + index % 2 * (SCENE.width + GAP_PX), at[1] + 8 + index // 2 * 24
        draw.rectangle((x, y, x + 14, y + 14), fill=color, outline=INK if color == ROOM else None)
        draw.text((x + 22, y), text, INK, font(11))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, the same on every machine."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
