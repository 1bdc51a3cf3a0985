"""Draws docs/pictures/padding.png with the service's own framing: `python docs/pictures/padding.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cutstream_server.imaging.framing import centre_of_mass, crop_box, foreground_box
from cutstream_server.imaging.geometry import Box, CropBox, Point, Size

TARGET: Final = Path(__file__).with_name("padding.png")
PANEL: Final = Size(300, 300)
TITLE_PX: Final = 22
PADDING, FACTOR = 0.2, 1.5
GREY, BLUE, RED, GREEN = "#9aa3ad", "#1f5fbf", "#c0392b", "#2e8b57"


def main() -> None:
    """Writes the picture: a row for each rule, a column for each object."""
    objects = {"sword": sword(), "hammer": hammer(), "ball": ball()}
    sheet = Image.new("RGB", (PANEL.width * len(objects), 2 * (PANEL.height + TITLE_PX)), "white")
    for row, smart in enumerate((False, True)):
        for column, (name, alpha) in enumerate(objects.items()):
            left, top = column * PANEL.width, row * (PANEL.height + TITLE_PX)
            title = f"{name}, {'smart' if smart else 'plain'}"
            ImageDraw.Draw(sheet).text((left + 8, top + 6), title, fill="black")
            sheet.paste(panel(alpha, smart=smart), (left, top + TITLE_PX))
    sheet.quantize(32).save(TARGET, optimize=True)


def panel(alpha: npt.NDArray[np.float32], *, smart: bool) -> Image.Image:
    """Shows an object with its box (grey), its crop (blue), the crop's middle (+) and its centre of mass (dot)."""
    box, centre = foreground_box(alpha, 0.5, PANEL), centre_of_mass(alpha, 0.5, PANEL)
    assert box is not None
    assert centre is not None
    crop = crop_box(box, centre, padding=PADDING, smart=smart, adaptive_factor=FACTOR)
    shade = np.rint(255 - 90 * alpha).astype(np.uint8)
    picture = Image.fromarray(np.dstack([shade] * 3))
    draw = ImageDraw.Draw(picture)
    draw.rectangle(edges(box), outline=GREY)
    draw.rectangle(edges(crop), outline=BLUE, width=2)
    cross(draw, crop.center, BLUE)
    draw.ellipse((centre.x - 4, centre.y - 4, centre.x + 4, centre.y + 4), fill=RED)
    return picture


def edges(box: Box | CropBox) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of either kind of box."""
    if isinstance(box, Box):
        return box.left, box.top, box.right, box.bottom
    return box.left, box.top, box.left + box.width, box.top + box.height


def cross(draw: ImageDraw.ImageDraw, at: Point, colour: str) -> None:
    """Marks a place."""
    draw.line((at.x - 6, at.y, at.x + 6, at.y), fill=colour, width=2)
    draw.line((at.x, at.y - 6, at.x, at.y + 6), fill=colour, width=2)


def sword() -> npt.NDArray[np.float32]:
    """A long thin blade with its mass at the hilt."""
    canvas = np.zeros(PANEL[::-1], np.float32)
    cv2.rectangle(canvas, (146, 50), (153, 210), 1.0, -1)
    cv2.rectangle(canvas, (130, 205), (169, 214), 1.0, -1)
    cv2.rectangle(canvas, (143, 215), (156, 249), 1.0, -1)
    return canvas


def hammer() -> npt.NDArray[np.float32]:
    """A heavy head on one end of a handle."""
    canvas = np.zeros(PANEL[::-1], np.float32)
    cv2.rectangle(canvas, (95, 60), (204, 109), 1.0, -1)
    cv2.rectangle(canvas, (143, 110), (156, 239), 1.0, -1)
    return canvas


def ball() -> npt.NDArray[np.float32]:
    """The same in all directions."""
    canvas = np.zeros(PANEL[::-1], np.float32)
    cv2.circle(canvas, (150, 150), 90, 1.0, -1)
    return canvas


if __name__ == "__main__":
    main()
