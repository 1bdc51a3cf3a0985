"""Placing the object as a preset's project does, and resampling what it shows.

The order of work is the project's: where it shrinks an image first, the box is taken on the shrunk alpha, and the crop
around it is brought back to source pixels, so that the source is still resampled only once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutstream_server.imaging.foreground import compose_foreground
from cutstream_server.imaging.geometry import Box, CropBox, Size
from cutstream_server.imaging.layout import Layout, lay_out
from cutstream_server.imaging.mask import AlphaMap, Threshold, choose_threshold, object_pixels, otsu_threshold
from cutstream_server.imaging.preset_rules import Rect
from cutstream_server.imaging.presets import Preset, Shrink
from cutstream_server.imaging.resample import Floats, Pixels, resample_premultiplied, resize_map
from cutstream_server.options import Options

PILLOW_FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Placement:
    """What the cutout shows and how large it is; boxes are in source pixels.

    Attributes:
        crop: has the aspect of `size`.
        size: of the cutout in pixels.
        threshold: that the object's box was taken at, on the alpha as the project sees it (shrunk, where it shrinks).
        box: the object's.
        visible: alpha outside is 0 in the cutout; whole pixels.
    """

    crop: CropBox
    size: Size
    threshold: Threshold
    box: Box
    visible: Box


def place(preset: Preset, alpha: AlphaMap, options: Options, *, input_alpha: bool) -> Placement | None:
    """Place the object as the preset's project does, with the numbers of the options used.

    A threshold that the preset set (it still has the preset's value) stands as it is; any other is clamped to its
    limits. An output size other than the preset's beats a native one; an output that is not square shows the smallest
    crop of its aspect that holds the project's square.

    Args:
        preset: whose rule.
        alpha: (H, W) in 0..1, in upright source pixels, the alpha floor applied.
        options: the preset's, overridden by explicit ones.
        input_alpha: alpha came with the image: some projects then shrink nothing, and glass is boxed at half its
            maximum.

    Returns:
        None when nothing is above the threshold.

    Raises:
        OutputTooLargeError: when a native size is over the limit of `layout`.
    """
    source = Size(alpha.shape[1], alpha.shape[0])
    seen = _shrunk(alpha, preset.shrink, input_alpha=input_alpha)
    image = Size(seen.shape[1], seen.shape[0])
    threshold = _threshold(preset, seen, options, input_alpha=input_alpha)
    objects = object_pixels(seen, threshold.used)
    if not objects.any():
        return None
    rect = preset.find(objects)
    cut = preset.rule(rect, options.padding_percentage, image)
    layout = _lay_out(preset, cut.crop, options)
    return Placement(
        crop=_to_source(layout.crop, image, source),
        size=layout.size,
        threshold=threshold,
        box=_rect_in_source(rect, image, source),
        visible=_rect_in_source(cut.visible or Rect(0, 0, *image), image, source),
    )


def compose(
    preset: Preset, rgb: Pixels, alpha: AlphaMap, placement: Placement, options: Options
) -> tuple[Floats, Floats]:
    """Resample the placed crop, by Pillow in 8 bits where the project does and 8 bits are wanted.

    Pillow rounds the premultiplied image, and each of its two passes, to 8 bits and clips ringing after each; on soft
    and on sharp edges that makes up to 40 of 255 of difference to one pass in floats. TRELLIS's encoder sees Pillow's
    picture. More than 8 bits, another kernel, crops between pixels, and estimated foreground colours need floats.

    Args:
        preset: whose project.
        rgb: (H, W, 3) straight sRGB of the whole source, uint8 or uint16.
        alpha: (H, W) in 0..1, as given to `place`.
        placement: what `place` gave.
        options: as given to `place`.

    Returns:
        Straight colour (h, w, 3) and alpha (h, w) of the cutout, float32 in 0..1.
    """
    left, right = round(placement.visible.left), round(placement.visible.right)
    top, bottom = round(placement.visible.top), round(placement.visible.bottom)
    rgb, alpha = rgb[top:bottom, left:right], alpha[top:bottom, left:right]
    crop = replace(placement.crop, left=placement.crop.left - left, top=placement.crop.top - top)
    if preset.resampled_by_pillow and not options.estimate_foreground and _takes_pillow(rgb, crop, options):
        return _resample_by_pillow(rgb, alpha, crop, placement.size, PILLOW_FILTERS[options.interpolation_mode])
    resample = compose_foreground if options.estimate_foreground else resample_premultiplied
    return resample(
        rgb,
        alpha,
        crop,
        *placement.size,
        interpolation=options.interpolation_mode,
        antialias=options.enable_antialiasing,
    )


def _shrunk(alpha: AlphaMap, shrink: Shrink | None, *, input_alpha: bool) -> AlphaMap:
    """The alpha as the project sees it. Sides are truncated, in the projects' own expression, as theirs are."""
    height, width = alpha.shape
    if shrink is None or (input_alpha and not shrink.input_alpha) or max(width, height) <= shrink.longest_px:
        return alpha
    scale = shrink.longest_px / max(width, height)
    size = Size(max(1, int(width * scale)), max(1, int(height * scale)))
    if shrink.kernel == "area":
        return resize_map(alpha, *size)
    shrunk = Image.fromarray(_to_8_bits(alpha)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(shrunk).astype(np.float32) / np.float32(255)


def _threshold(preset: Preset, alpha: AlphaMap, options: Options, *, input_alpha: bool) -> Threshold:
    """The preset's threshold as it is, or the one that explicit options ask for, clamped; lowered for glass."""
    asked_for = options.mask_threshold != preset.options["mask_threshold"]
    by_otsu = preset.options["use_adaptive_threshold"]
    own = not asked_for and options.use_adaptive_threshold == by_otsu
    return choose_threshold(
        alpha,
        fixed=otsu_threshold(alpha) if own and by_otsu else options.mask_threshold,
        # A number asked for beats the preset's own Otsu.
        adaptive=options.use_adaptive_threshold and not own and not (asked_for and by_otsu),
        minimum=options.mask_threshold_min,
        maximum=options.mask_threshold_max,
        clamp=not own,
        input_alpha=input_alpha,
    )


def _lay_out(preset: Preset, square: CropBox, options: Options) -> Layout:
    """The cutout's size, and the project's square grown to its aspect."""
    own = Size(preset.options["output_width_px"], preset.options["output_height_px"])
    wanted = Size(options.output_width_px or own.width, options.output_height_px or own.height)
    mode = options.size_mode
    if mode == "native" == preset.options["size_mode"] and wanted != own:
        mode = "fixed"
    width = square.width * max(1.0, wanted.width / wanted.height)
    height = square.height * max(1.0, wanted.height / wanted.width)
    left, top = square.center.x - width / 2, square.center.y - height / 2
    return lay_out(CropBox(left, top, width, height), wanted, mode)


def _to_source(crop: CropBox, image: Size, source: Size) -> CropBox:
    """Brings a crop back from the shrunk image: its middle as it is, its sides in the scale of the long side.

    The two scales differ because the shrunk sides are truncated; the crop must not.
    """
    pitch = max(source) / max(image)
    width, height = crop.width * pitch, crop.height * pitch
    x, y = crop.center.x * source.width / image.width, crop.center.y * source.height / image.height
    return CropBox(x - width / 2, y - height / 2, width, height)


def _rect_in_source(rect: Rect, image: Size, source: Size) -> Box:
    scale_x, scale_y = source.width / image.width, source.height / image.height
    return Box(
        rect.left * scale_x,
        rect.top * scale_y,
        (rect.left + rect.width) * scale_x,
        (rect.top + rect.height) * scale_y,
    )


def _takes_pillow(rgb: Pixels, crop: CropBox, options: Options) -> bool:
    return (
        rgb.dtype == np.uint8
        and options.sample_type == "uint8"
        and options.interpolation_mode in PILLOW_FILTERS
        and options.enable_antialiasing
        and all(value == int(value) for value in (crop.left, crop.top, crop.width, crop.height))
    )


def _resample_by_pillow(
    rgb: npt.NDArray[Any], alpha: AlphaMap, crop: CropBox, size: Size, kernel: Image.Resampling
) -> tuple[Floats, Floats]:
    left, top = int(crop.left), int(crop.top)
    right, bottom = left + int(crop.width), top + int(crop.height)
    # Only what the crop shows is put together: the rest of a large source would cost more than the resampling.
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    shown = Image.fromarray(np.dstack((rgb[rows, columns], _to_8_bits(alpha[rows, columns]))))
    shift_x, shift_y = columns.start, rows.start
    cut = shown.crop((left - shift_x, top - shift_y, right - shift_x, bottom - shift_y))
    rgba = np.asarray(cut.resize(size, kernel)).astype(np.float32) / np.float32(255)
    return rgba[..., :3], rgba[..., 3]


def _to_8_bits(alpha: AlphaMap) -> npt.NDArray[np.uint8]:
    levels: npt.NDArray[np.uint8] = np.rint(alpha * np.float32(255)).astype(np.uint8)
    return levels
