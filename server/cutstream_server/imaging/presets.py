"""Framing presets: cutouts as the preprocessing of known image-to-3D projects makes them.

A preset sets options by name, which explicit options override, and says by which of the `preset_rules` the object is
placed. `placing` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.layout import SizeMode
from cutstream_server.imaging.preset_rules import (
    Rect,
    Rule,
    crop_as_crm,
    crop_as_recentred,
    crop_as_spar3d,
    crop_as_trellis,
    crop_as_triposg,
    crop_as_triposr,
    largest_contour,
    whole_object,
)
from cutstream_server.imaging.resample import Interpolation

BLACK: Final = "#000000"
WHITE: Final = "#FFFFFF"
# 0.5 in floats, which the projects truncate to 127 of 255.
GREY: Final = "#7F7F7F"

# The share of 5/6 that TRELLIS writes as a factor of 1.2 is exact as a padding; 0.85 is not: see `preset_rules`.
PADDING_OF_85_PERCENT: Final = 1 / 0.85 - 1
# TRELLIS takes pixels over 0.8 * 255 for object.
TRELLIS_THRESHOLD: Final = 0.8
# Residues of 1 and 2 of 255 would defeat boxes at alpha > 0. TRELLIS's box at 204 of 255 needs no floor, and its
# picture has alpha as it was.
RESIDUE_FLOOR: Final = 0.01
# What `use_adaptive_threshold` false falls back to where a project's own threshold is Otsu's.
OTSU_FALLBACK: Final = 0.5
# The largest side that may be asked for: in a preset of native size it stands for no size of its own.
NATIVE_SIDE_PX: Final = 4096
# OpenCV's cubic and PyTorch's `interpolate`, which these projects end with, do not widen their kernels. On a photo of
# 1500 pixels the mean difference to their pictures is 0.3 of 255 so, and 0.4 to 1.8 with antialiasing.
RECENTRED_ANTIALIAS: Final = False


@dataclass(frozen=True)
class Shrink:
    """An image whose long side is over `longest_px` is shrunk to it before anything else is done.

    Attributes:
        longest_px: that long side.
        kernel: how; the box depends on it by less than a pixel.
        input_alpha: also when the image brings its own alpha, and no network runs.
    """

    longest_px: int
    kernel: Literal["lanczos", "area"]
    input_alpha: bool


@dataclass(frozen=True)
class Preset:
    """One project's framing.

    Attributes:
        name: as in the option `preset`.
        description: what it is for, in one sentence.
        options: values by the names of `RemovalOptions`, all that decide about framing and size.
        background: what lies under the cutout with channels rgb, as #RRGGBB, unless `background_color` says so; None
            where the project takes straight alpha.
        rule: places the object.
        find: the object's rectangle among the pixels above the threshold.
        shrink: what the project does to large images first.
        resampled_by_pillow: the project resizes 8-bit RGBA with Pillow, and its picture is wanted to the last bit.
    """

    name: str
    description: str
    options: Mapping[str, Any]
    background: str | None
    rule: Rule
    find: Callable[[npt.NDArray[np.bool_]], Rect] = whole_object
    shrink: Shrink | None = None
    resampled_by_pillow: bool = False


def _framing(
    side_px: int,
    *,
    threshold: float,
    padding: float,
    size_mode: SizeMode = "fixed",
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    adaptive: bool = False,
    floor: float = RESIDUE_FLOOR,
) -> dict[str, Any]:
    """All options that decide about framing and size, so that nothing of a preset of a lower level shows through."""
    return {
        "alpha_floor": floor,
        "mask_threshold": threshold,
        "use_adaptive_threshold": adaptive,
        "padding_percentage": padding,
        "use_smart_padding": False,
        "framing": "object_crop",
        "output_width_px": side_px,
        "output_height_px": side_px,
        "size_mode": size_mode,
        "interpolation_mode": interpolation,
        "enable_antialiasing": antialias,
    }


PRESETS: Final[tuple[Preset, ...]] = (
    Preset(
        name="trellis",
        description="TRELLIS: object at 5/6 of 518 x 518, Lanczos; rgb over black.",
        options=_framing(518, threshold=TRELLIS_THRESHOLD, padding=0.2, interpolation="lanczos", floor=0.0),
        background=BLACK,
        rule=crop_as_trellis,
        shrink=Shrink(1024, "lanczos", input_alpha=False),
        resampled_by_pillow=True,
    ),
    Preset(
        name="trellis2",
        description="TRELLIS.2: object fills the frame, native size of the image shrunk to 1024; rgb over black.",
        options=_framing(
            1024,
            threshold=TRELLIS_THRESHOLD,
            padding=0.0,
            size_mode="longest_at_most",
            interpolation="lanczos",
            floor=0.0,
        ),
        background=BLACK,
        rule=crop_as_trellis,
        # Against shrinking the picture itself first, one resampling from the source differs by up to 3 of 255 in the
        # outermost pixels, where the kernel's taps end at the crop, and by 2 elsewhere.
        shrink=Shrink(1024, "lanczos", input_alpha=True),
    ),
    Preset(
        name="triposr",
        description="TripoSR: object at 0.85 of 512 x 512, bilinear; rgb over grey.",
        options=_framing(512, threshold=0.0, padding=PADDING_OF_85_PERCENT),
        background=GREY,
        rule=crop_as_triposr,
    ),
    Preset(
        name="instantmesh",
        description="InstantMesh: object at 0.85 of the frame, native size; rgb over white.",
        options=_framing(NATIVE_SIDE_PX, threshold=0.0, padding=PADDING_OF_85_PERCENT, size_mode="native"),
        background=WHITE,
        rule=crop_as_triposr,
    ),
    Preset(
        name="sf3d",
        description="Stable Fast 3D: object at 0.85 of the frame, native size; rgb over grey.",
        options=_framing(NATIVE_SIDE_PX, threshold=0.0, padding=PADDING_OF_85_PERCENT, size_mode="native"),
        background=GREY,
        rule=crop_as_triposr,
    ),
    Preset(
        name="spar3d",
        description="SPAR3D: object at 0.77 of the frame, native size, straight alpha.",
        options=_framing(NATIVE_SIDE_PX, threshold=0.0, padding=0.3, size_mode="native"),
        background=None,
        rule=crop_as_spar3d,
    ),
    Preset(
        name="hunyuan3d",
        description="Hunyuan3D: object at 0.85 of 512 x 512, bicubic; rgb over white.",
        options=_framing(
            512, threshold=0.0, padding=PADDING_OF_85_PERCENT, interpolation="bicubic", antialias=RECENTRED_ANTIALIAS
        ),
        background=WHITE,
        rule=crop_as_recentred,
    ),
    Preset(
        name="triposg",
        description="TripoSG: largest part by Otsu, padded by a tenth, native size of the image shrunk to 2000; "
        "rgb over white.",
        options=_framing(2000, threshold=OTSU_FALLBACK, padding=0.2, size_mode="longest_at_most", adaptive=True),
        background=WHITE,
        rule=crop_as_triposg,
        find=largest_contour,
        shrink=Shrink(2000, "area", input_alpha=True),
    ),
    Preset(
        name="lgm",
        description="LGM: object at 0.8 of 256 x 256, bilinear; rgb over white.",
        options=_framing(256, threshold=0.0, padding=0.25, antialias=RECENTRED_ANTIALIAS),
        background=WHITE,
        rule=crop_as_recentred,
    ),
    Preset(
        name="crm",
        description="CRM: object fills the frame, native size; rgb over grey.",
        options=_framing(NATIVE_SIDE_PX, threshold=0.0, padding=0.0, size_mode="native"),
        background=GREY,
        rule=crop_as_crm,
    ),
)
PRESETS_BY_NAME: Final[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}
