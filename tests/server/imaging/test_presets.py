"""Presets against transcriptions of each project's preprocessing, written from its rule with Pillow, numpy and OpenCV.

Pictures are RGBA drawn by code: no network runs, so every number of the project's own picture is known.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from skimage.measure import label
from skimage.morphology import remove_small_objects

from cutstream_server.errors import OutputTooLargeError
from cutstream_server.imaging.encode import encode
from cutstream_server.imaging.mask import apply_alpha_floor
from cutstream_server.imaging.placing import Placement, compose, place
from cutstream_server.imaging.presets import PRESETS, PRESETS_BY_NAME
from cutstream_server.options import Options

NAMES = [preset.name for preset in PRESETS]
FLOOR = 0.01


def draw(
    width: int, height: int, centre: tuple[float, float], radii: tuple[float, float], soft: float, *, texture: str
) -> np.ndarray:
    """An RGBA ellipse whose alpha falls from 1 to 0 over `soft` pixels; it may reach over the border."""
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    alpha = np.clip(0.5 + (1 - distance) * min(radii) / soft, 0, 1)
    if texture == "noise":
        rgb = np.random.default_rng(7).integers(0, 256, (height, width, 3))
    elif texture == "checks":
        rgb = np.repeat(((x // 4 + y // 4) % 2)[..., np.newaxis] * 255, 3, axis=2)
    else:
        rgb = np.stack([x * 255 / width, y * 255 / height, 90 + 60 * np.sin(x / 9 + y / 7)], axis=2)
    return np.dstack([np.rint(rgb), np.rint(alpha * 255)]).astype(np.uint8)


SCENES = {
    "soft": draw(400, 300, (200, 150), (90, 70), 9, texture="smooth"),
    "sharp": draw(301, 401, (140.3, 222.7), (61.2, 118.9), 1, texture="noise"),
    "hazy": draw(500, 333, (260, 170), (200, 130), 90, texture="noise"),
    "at the border": draw(257, 190, (3, 95), (120, 60), 5, texture="checks"),
    "in the corner": draw(203, 311, (203, 311), (97, 140), 3, texture="noise"),
    "over the frame": draw(181, 97, (90, 48), (300, 300), 4, texture="smooth"),
    "small": draw(64, 48, (20.5, 31), (9, 6), 2, texture="noise"),
    "flat": draw(640, 200, (333, 99), (290, 11), 2, texture="checks"),
    "large": draw(1300, 1100, (600, 520), (470, 410), 6, texture="noise"),
}
SCENE_NAMES = list(SCENES)


def alpha_of(rgba: np.ndarray) -> np.ndarray:
    return rgba[..., 3].astype(np.float32) / np.float32(255)


def options_of(name: str, **explicit: object) -> Options:
    # As the pipeline does for alpha that came with the image: its colours stay.
    return Options.model_validate({**PRESETS_BY_NAME[name].options, "estimate_foreground": False, **explicit})


def placed(name: str, alpha: np.ndarray, *, input_alpha: bool = True, **explicit: object) -> Placement | None:
    options = options_of(name, **explicit)
    alpha = apply_alpha_floor(alpha, options.alpha_floor)
    return place(PRESETS_BY_NAME[name], alpha, options, input_alpha=input_alpha)


def cutout(name: str, rgba: np.ndarray, channels: str = "rgb", **explicit: object) -> np.ndarray:
    """The samples of the cutout, by the steps of the pipeline: floor, place, compose, encode."""
    preset, options = PRESETS_BY_NAME[name], options_of(name, **explicit)
    alpha = apply_alpha_floor(alpha_of(rgba), options.alpha_floor)
    placement = place(preset, alpha, options, input_alpha=True)
    rgb, alpha = compose(preset, rgba[..., :3], alpha, placement, options)
    colour = preset.background and tuple(bytes.fromhex(preset.background[1:]))
    data = encode(
        rgb,
        alpha,
        output_format="raw",
        channels=channels,
        sample_type=options.sample_type,
        background_color=colour,
    )
    return np.frombuffer(data, options.sample_type).reshape(*placement.size[::-1], -1).astype(int)


def floored(rgba: np.ndarray) -> np.ndarray:
    """The picture that a project's own `alpha > 0` test is meant to get."""
    alpha = rgba[..., 3] / 255
    values = np.where(alpha < FLOOR, 0, np.where(alpha > 1 - FLOOR, 255, rgba[..., 3]))
    return np.dstack([rgba[..., :3], values]).astype(np.uint8)


def over(rgba: np.ndarray, background: float) -> np.ndarray:
    """The picture on a grey of 0..1, in float and truncated to 8 bits as the projects do."""
    values = rgba.astype(np.float32) / 255
    mixed = values[..., :3] * values[..., 3:] + background * (1 - values[..., 3:])
    return (mixed * 255).astype(np.uint8).astype(int)


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# TRELLIS


def trellis_crop(rgba: np.ndarray, factor: float) -> Image.Image:
    rows, columns = np.nonzero(rgba[..., 3] > 0.8 * 255)
    middle_x, middle_y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    side = int(max(np.ptp(columns), np.ptp(rows)) * factor)
    return Image.fromarray(rgba).crop(
        (middle_x - side // 2, middle_y - side // 2, middle_x + side // 2, middle_y + side // 2)
    )


def trellis_rgba(rgba: np.ndarray) -> np.ndarray:
    return np.asarray(trellis_crop(rgba, 1.2).resize((518, 518), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("scene", SCENE_NAMES)
def test_trellis_rgb_is_its_encoders_picture_within_its_truncation(scene):
    # TRELLIS truncates RGB * alpha to 8 bits, the encoder here rounds it: the rest is equal.
    expected = over(trellis_rgba(SCENES[scene]), 0)
    difference = cutout("trellis", SCENES[scene]) - expected

    assert difference.min() >= 0
    assert difference.max() <= 1


@pytest.mark.parametrize("scene", SCENE_NAMES)
def test_trellis_rgba_is_pillows_picture_exactly(scene):
    expected = trellis_rgba(SCENES[scene]).astype(int)
    expected[expected[..., 3] == 0] = 0  # what alpha hides is cleared

    np.testing.assert_array_equal(cutout("trellis", SCENES[scene], "rgba"), expected)


# The rule rounds to whole source pixels, and enlarging the crop to 518 enlarges that: objects that fill a good part of
# the 518 already.
@pytest.mark.parametrize("scene", ["soft", "hazy", "sharp", "large"])
def test_second_trellis_crop_lies_within_3_px_of_the_frame(scene):
    once = cutout("trellis", SCENES[scene], "rgba").astype(np.uint8)
    again = placed("trellis", alpha_of(once)).crop

    edges = [again.left, again.top, again.left + again.width, again.top + again.height]
    np.testing.assert_allclose(edges, [0, 0, 518, 518], atol=3)


def test_trellis_finds_the_box_on_the_image_shrunk_to_1024_when_a_network_ran():
    rgba = draw(2000, 1501, (901.3, 700), (420, 555), 7, texture="smooth")
    shrunk = np.asarray(
        Image.fromarray(rgba[..., 3]).resize((1024, int(1501 * (1024 / 2000))), Image.Resampling.LANCZOS)
    )
    rows, columns = np.nonzero(shrunk > 0.8 * 255)
    side = int(max(np.ptp(columns), np.ptp(rows)) * 1.2) // 2 * 2
    middle = [(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2]

    crop = placed("trellis", alpha_of(rgba), input_alpha=False).crop

    assert crop.width == crop.height == pytest.approx(side * 2000 / 1024)
    # Half a shrunk pixel for the rounding of the corner.
    assert crop.center.x == pytest.approx(middle[0] * 2000 / 1024, abs=1)
    assert crop.center.y == pytest.approx(middle[1] * 1501 / shrunk.shape[0], abs=1)


def test_trellis_does_not_shrink_an_image_that_brings_its_alpha():
    rgba = draw(2000, 1501, (901.3, 700), (420, 555), 7, texture="smooth")
    crop = placed("trellis", alpha_of(rgba)).crop

    assert trellis_crop(rgba, 1.2).size == (crop.width, crop.height)


def test_trellis_resamples_in_floats_when_16_bits_are_wanted():
    samples = cutout("trellis", SCENES["soft"], "rgba", sample_type="uint16")

    assert len(np.unique(samples[..., 3])) > 1000


@pytest.mark.parametrize("scene", ["soft", "sharp", "hazy", "at the border", "small"])
def test_trellis2_is_the_crop_without_resampling(scene):
    assert (
        largest_difference(cutout("trellis2", SCENES[scene]), over(np.asarray(trellis_crop(SCENES[scene], 1.0)), 0))
        <= 1
    )


def shrunk_rgba(rgba: np.ndarray, longest: int) -> np.ndarray:
    scale = longest / max(rgba.shape[:2])
    size = int(rgba.shape[1] * scale), int(rgba.shape[0] * scale)
    return np.asarray(Image.fromarray(rgba).resize(size, Image.Resampling.LANCZOS))


def test_trellis2_on_a_large_image_is_within_3_of_255_of_shrinking_it_first():
    # One resampling of the crop: the kernel's taps end at the crop, not at the image, which the outermost pixels show.
    rgba = draw(2000, 1500, (950, 760), (800, 640), 12, texture="smooth")
    difference = np.abs(cutout("trellis2", rgba) - over(np.asarray(trellis_crop(shrunk_rgba(rgba, 1024), 1.0)), 0))

    assert difference.max() <= 3
    assert difference.mean() < 0.2


# TripoSR and those that took over its rule


def padded_to(picture: np.ndarray, side: int) -> np.ndarray:
    """Centred in a square of transparent pixels, an odd one to the right and the bottom."""
    height, width = picture.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(picture, ((top, side - height - top), (left, side - width - left), (0, 0)))


def triposr_rgba(rgba: np.ndarray, ratio: float) -> np.ndarray:
    rgba = floored(rgba)
    rows, columns = np.nonzero(rgba[..., 3] > 0)
    part = rgba[rows.min() : rows.max(), columns.min() : columns.max()]
    square = padded_to(part, max(part.shape[:2]))
    return padded_to(square, int(len(square) / ratio))


@pytest.mark.parametrize("scene", SCENE_NAMES)
@pytest.mark.parametrize(("name", "background"), [("instantmesh", 1.0), ("sf3d", 0.5)])
def test_native_triposr_rule_gives_the_padded_slice(name, background, scene):
    expected = over(triposr_rgba(SCENES[scene], 0.85), background)

    assert largest_difference(cutout(name, SCENES[scene]), expected) <= 1


@pytest.mark.parametrize("scene", SCENE_NAMES)
def test_triposr_is_the_grey_picture_resized_by_an_antialiased_triangle(scene):
    grey = over(triposr_rgba(SCENES[scene], 0.85), 0.5).astype(np.float32)
    planes = [np.asarray(Image.fromarray(grey[..., c]).resize((512, 512), Image.Resampling.BILINEAR)) for c in range(3)]

    # 1 for the truncation before the resizing, 0.5 each for the grey of 127.5 and the rounding.
    assert np.abs(cutout("triposr", SCENES[scene]) - np.stack(planes, 2)).max() <= 2


# SPAR3D


@pytest.mark.parametrize("scene", SCENE_NAMES)
def test_spar3d_is_the_truncated_square_around_the_middle(scene):
    rgba = floored(SCENES[scene])
    rows, columns = np.nonzero(rgba[..., 3] >= 1)
    scale = max(np.ptp(rows), np.ptp(columns)) * 1.3
    left = int((columns.min() + columns.max()) / 2 - scale / 2)
    top = int((rows.min() + rows.max()) / 2 - scale / 2)
    expected = np.asarray(Image.fromarray(rgba).crop((left, top, left + int(scale), top + int(scale)))).astype(int)
    expected[expected[..., 3] == 0] = 0

    np.testing.assert_array_equal(cutout("spar3d", SCENES[scene], "rgba"), expected)


# Hunyuan3D and LGM


def recentred(rgba: np.ndarray, border: float) -> np.ndarray:
    rgba = floored(rgba)
    rows, columns = np.nonzero(rgba[..., 3])
    part = rgba[rows.min() : rows.max(), columns.min() : columns.max()]
    canvas = np.zeros((max(rgba.shape[:2]),) * 2 + (4,), np.uint8)
    scale = int(len(canvas) * (1 - border)) / max(part.shape[:2])
    height, width = int(part.shape[0] * scale), int(part.shape[1] * scale)
    top, left = (len(canvas) - height) // 2, (len(canvas) - width) // 2
    canvas[top : top + height, left : left + width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return canvas


RECENTRED = [("hunyuan3d", 0.15, 512, cv2.INTER_CUBIC), ("lgm", 0.2, 256, cv2.INTER_LINEAR)]


@pytest.mark.parametrize("scene", SCENE_NAMES)
@pytest.mark.parametrize(("name", "border", "side", "_kernel"), RECENTRED)
def test_recentred_object_is_where_the_project_puts_it(name, border, side, _kernel, scene):
    canvas = recentred(SCENES[scene], border)
    expected = cv2.resize(canvas[..., 3].astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    found = cutout(name, SCENES[scene], "rgba")[..., 3]

    # The project truncates the object to whole pixels of its canvas.
    for axis in (0, 1):
        middle = np.average(np.arange(side), weights=found.sum(axis))
        assert middle == pytest.approx(np.average(np.arange(side), weights=expected.sum(axis)), abs=side / len(canvas))
    short = min(np.ptp(np.nonzero(canvas[..., 3]), axis=1)) + 1
    assert found.sum() == pytest.approx(expected.sum(), rel=0.02 + 1 / short)


@pytest.mark.parametrize(("name", "border", "side", "kernel"), RECENTRED)
def test_recentred_photo_is_the_projects_picture_in_the_mean(name, border, side, kernel):
    # Area, then OpenCV's cubic of a = -0.75 or a triangle, twice rounded, against one resampling.
    rgba = draw(1500, 1200, (700, 640), (500, 450), 8, texture="smooth")
    rgba[..., :3] = cv2.resize(astronaut(), (1500, 1200), interpolation=cv2.INTER_CUBIC)
    white = over(recentred(rgba, border), 1).astype(np.uint8)
    difference = np.abs(cutout(name, rgba) - cv2.resize(white, (side, side), interpolation=kernel))

    assert difference.mean() < 0.4


# TripoSG


def blocks(width: int, height: int, *rectangles: tuple[int, int, int, int]) -> np.ndarray:
    """Opaque rectangles (left, top, width, height) on nothing."""
    rgba = draw(width, height, (width / 2, height / 2), (width, height), 1, texture="noise")
    rgba[..., 3] = 0
    for left, top, w, h in rectangles:
        rgba[top : top + h, left : left + w, 3] = 255
    return rgba


BLOCKS = {
    "wide": blocks(300, 200, (40, 50, 151, 60), (250, 10, 10, 10), (220, 150, 30, 30)),
    "tall": blocks(200, 300, (40, 50, 61, 151), (5, 280, 14, 14)),
    "at the border": blocks(120, 100, (0, 20, 77, 80)),
    "whole": blocks(90, 60, (0, 0, 90, 60)),
}


def triposg_rgba(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    _, binary = cv2.threshold(alpha, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    parts = remove_small_objects(label(binary) > 0, max_size=199).astype(np.uint8)
    contours, _ = cv2.findContours(parts, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    if w > h:
        pad_x = int(w * 0.1)
        pad_y = int(pad_x + (w - h) / 2)
    else:
        pad_y = int(h * 0.1)
        pad_x = int(pad_y + (h - w) / 2)
    return np.pad(rgba[y : y + h, x : x + w], ((pad_y, pad_y), (pad_x, pad_x), (0, 0)))


@pytest.mark.parametrize("scene", list(BLOCKS))
def test_triposg_is_the_padded_largest_part(scene):
    expected = over(triposg_rgba(BLOCKS[scene]), 1)
    found = cutout("triposg", BLOCKS[scene])

    # TripoSG's own picture is a pixel short where the sides differ by an odd number: the missing line is background.
    height, width = expected.shape[:2]
    assert max(found.shape[0] - height, found.shape[1] - width) <= 1
    assert largest_difference(found[:height, :width], expected) <= 1
    assert (found[height:] == 255).all()
    assert (found[:, width:] == 255).all()


def test_triposg_frames_a_small_object_that_is_all_there_is():
    assert placed("triposg", alpha_of(blocks(60, 60, (20, 20, 10, 10)))).box.width == 10


def test_triposg_works_on_the_image_shrunk_to_2000():
    alpha = np.zeros((1000, 4000), np.float32)
    alpha[200:800, 1000:2000] = 1

    # Half the size: an object of 500 pixels and a tenth of that on either side.
    assert placed("triposg", alpha).size == (600, 600)


# CRM


@pytest.mark.parametrize("scene", SCENE_NAMES)
def test_crm_is_the_box_padded_to_a_square_on_grey(scene):
    rgba = floored(SCENES[scene])
    part = np.asarray(Image.fromarray(rgba).crop(Image.fromarray(rgba[..., 3]).getbbox()))
    expected = over(padded_to(part, max(part.shape[:2])), 127 / 255)

    assert largest_difference(cutout("crm", SCENES[scene]), expected) <= 1


# The table

ROWS = [
    ("trellis", 1 / 1.2, 518, "#000000"),
    ("trellis2", 1.0, 1024, "#000000"),
    ("triposr", 0.85, 512, "#7F7F7F"),
    ("instantmesh", 0.85, None, "#FFFFFF"),
    ("sf3d", 0.85, None, "#7F7F7F"),
    ("spar3d", 1 / 1.3, None, None),
    ("hunyuan3d", 0.85, 512, "#FFFFFF"),
    ("triposg", 1 / 1.2, 2000, "#FFFFFF"),
    ("lgm", 0.8, 256, "#FFFFFF"),
    ("crm", 1.0, None, "#7F7F7F"),
]


def test_there_is_a_preset_for_every_row():
    assert [row[0] for row in ROWS] == NAMES


@pytest.mark.parametrize(("name", "share", "side", "background"), ROWS)
def test_preset_has_the_share_size_and_background_of_its_row(name, share, side, background):
    preset = PRESETS_BY_NAME[name]

    assert 1 / (1 + preset.options["padding_percentage"]) == pytest.approx(share)
    assert preset.background == background
    if side is None:
        assert preset.options["size_mode"] == "native"
    else:
        assert preset.options["output_width_px"] == preset.options["output_height_px"] == side


@pytest.mark.parametrize("name", NAMES)
def test_preset_sets_the_same_options_as_every_other(name):
    # A preset of the stream must not show through one of the image.
    assert PRESETS_BY_NAME[name].options.keys() == PRESETS[0].options.keys()


@pytest.mark.parametrize("name", NAMES)
def test_preset_sets_only_valid_options(name):
    assert options_of(name).framing == "object_crop"


# Explicit options


def test_own_threshold_is_not_clamped():
    assert placed("instantmesh", alpha_of(SCENES["hazy"])).threshold.used == 0


def test_explicit_threshold_is_clamped_to_its_limits():
    assert placed("instantmesh", alpha_of(SCENES["hazy"]), mask_threshold=0.3).threshold.used == 0.5


def test_explicit_threshold_beats_otsu():
    assert placed("triposg", alpha_of(SCENES["hazy"]), mask_threshold=0.9).threshold.used == 0.9


def test_explicit_otsu_beats_the_presets_threshold():
    threshold = placed("trellis", alpha_of(SCENES["hazy"]), use_adaptive_threshold=True).threshold

    assert threshold.used == max(threshold.otsu, 0.5)


def test_own_otsu_is_not_clamped():
    alpha = np.where(alpha_of(SCENES["sharp"]) > 0.5, np.float32(0.6), np.float32(0))
    threshold = placed("triposg", alpha).threshold

    assert threshold.used == threshold.otsu < 0.5


@pytest.mark.parametrize("padding", [0.0, 0.1, 0.5, 1.0])
def test_explicit_padding_decides_the_share(padding):
    placement = placed("crm", alpha_of(blocks(300, 300, (50, 60, 100, 40))), padding_percentage=padding)

    assert placement.crop.width == pytest.approx(100 * (1 + padding))


@pytest.mark.parametrize("name", ["trellis", "triposr", "instantmesh", "spar3d", "hunyuan3d", "crm"])
def test_explicit_output_size_wins(name):
    placement = placed(name, alpha_of(SCENES["soft"]), output_width_px=320, output_height_px=320)

    assert placement.size == (320, 320)


@pytest.mark.parametrize("name", NAMES)
def test_output_that_is_not_square_shows_the_whole_square_of_the_preset(name):
    square = placed(name, alpha_of(SCENES["soft"])).crop
    wide = placed(name, alpha_of(SCENES["soft"]), output_width_px=300, output_height_px=200, size_mode="fixed").crop

    assert wide.width / wide.height == pytest.approx(1.5)
    assert wide.height == pytest.approx(square.height)
    assert wide.center == pytest.approx(square.center)


def test_explicit_interpolation_wins():
    triangle = trellis_crop(SCENES["soft"], 1.2).resize((518, 518), Image.Resampling.BILINEAR)

    found = cutout("trellis", SCENES["soft"], interpolation_mode="bilinear")
    assert largest_difference(found, over(np.asarray(triangle), 0)) <= 1


# No object, glass, large objects


@pytest.mark.parametrize("name", NAMES)
def test_nothing_above_the_threshold_is_no_placement(name):
    assert placed(name, np.zeros((40, 50), np.float32)) is None


@pytest.mark.parametrize("name", NAMES)
def test_object_of_one_pixel_is_placed(name):
    alpha = np.zeros((40, 50), np.float32)
    alpha[12, 34] = 1
    crop = placed(name, alpha).crop

    assert crop.left <= 34.5 <= crop.left + crop.width
    assert crop.top <= 12.5 <= crop.top + crop.height


@pytest.mark.parametrize(("input_alpha", "expected"), [(True, 0.35), (False, 0.5)])
def test_glass_is_boxed_at_a_lower_threshold(input_alpha, expected):
    alpha = np.where(alpha_of(SCENES["sharp"]) > 0.5, np.float32(0.7), np.float32(0))

    assert placed("trellis", alpha, input_alpha=input_alpha).threshold.used == pytest.approx(expected)


def test_native_size_over_the_limit_is_refused():
    # 4999 / 0.85 = 5881 pixels square.
    with pytest.raises(OutputTooLargeError) as raised:
        placed("instantmesh", np.ones((4, 5000), np.float32))

    assert raised.value.metadata["measured"] == str(5881**2)
