"""Box, centre of mass and crop: maps made by hand, worked examples, and properties over random boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cutstream_server.imaging.framing import centre_of_mass, crop_box, foreground_box, full_frame
from cutstream_server.imaging.geometry import Box, CropBox, Point, Size

EXACT = 1e-9
ELONGATED = 1.5


@dataclasses.dataclass(frozen=True)
class Scene:
    """One object to frame and how."""

    box: Box
    centre: Point
    padding: float
    factor: float
    aspect: float

    def crop(self, *, smart: bool = True) -> CropBox:
        return crop_box(
            self.box,
            self.centre,
            padding=self.padding,
            smart=smart,
            adaptive_factor=self.factor,
            aspect=self.aspect,
        )

    @property
    def long(self) -> float:
        return max(self.box.width, self.box.height)

    @property
    def short(self) -> float:
        return min(self.box.width, self.box.height)


def quarters(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of 1/4, which add without rounding."""
    return st.integers(low * 4, high * 4).map(lambda value: value / 4)


@st.composite
def scenes(draw: st.DrawFn, *, square: bool = False) -> Scene:
    """Boxes anywhere (in the frame, across its border, larger than it), one pixel wide to thousands."""
    left, top = draw(quarters(-3000, 3000)), draw(quarters(-3000, 3000))
    width, height = draw(quarters(1, 5000)), draw(quarters(1, 5000))
    centre = Point(
        left + width * draw(st.floats(0.01, 0.99)),
        top + height * draw(st.floats(0.01, 0.99)),
    )
    sides = st.integers(16, 4096)
    aspect = 1.0 if square else draw(sides) / draw(sides)
    return Scene(
        Box(left, top, left + width, top + height), centre, draw(st.floats(0, 2)), draw(st.floats(1, 4)), aspect
    )


smart_or_plain = st.booleans()


def margins(box: Box, crop: CropBox) -> tuple[float, float, float, float]:
    """Room between the box's and the crop's left, right, top and bottom edges."""
    return (
        box.left - crop.left,
        crop.left + crop.width - box.right,
        box.top - crop.top,
        crop.top + crop.height - box.bottom,
    )


def approx(crop: CropBox) -> tuple[object, ...]:
    return tuple(pytest.approx(value, rel=EXACT, abs=1e-6) for value in dataclasses.astuple(crop))


# Box on the map


def test_the_box_holds_the_pixels_above_the_threshold_whole():
    alpha = np.zeros((6, 9), np.float32)
    alpha[2:4, 3:8] = 0.9
    alpha[0, 0] = 0.8

    assert foreground_box(alpha, 0.8, Size(9, 6)) == Box(left=3, top=2, right=8, bottom=4)


def test_a_map_of_another_resolution_gives_the_box_in_source_pixels():
    alpha = np.zeros((6, 8), np.float32)
    alpha[2:4, 3:7] = 1

    assert foreground_box(alpha, 0.8, Size(2048, 1536)) == Box(left=768, top=512, right=1792, bottom=1024)


def test_one_pixel_above_the_threshold_is_a_box_of_one_pixel():
    alpha = np.zeros((5, 5), np.float32)
    alpha[4, 0] = 1

    assert foreground_box(alpha, 0.8, Size(5, 5)) == Box(left=0, top=4, right=1, bottom=5)


def test_a_map_with_nothing_above_the_threshold_has_no_box():
    assert foreground_box(np.full((4, 4), 0.8, np.float32), 0.8, Size(4, 4)) is None


# Centre of mass


def test_the_centre_of_mass_of_one_pixel_is_its_middle():
    alpha = np.zeros((5, 7), np.float32)
    alpha[3, 4] = 0.9

    assert centre_of_mass(alpha, 0.8, Size(7, 5)) == pytest.approx((4.5, 3.5))


def test_the_centre_of_mass_weighs_object_pixels_with_their_alpha():
    # x: (0.6 * 0.5 + 0.9 * 3.5) / 1.5 = 2.3; the two 0.5, in the box and outside it, are not above the threshold.
    alpha = np.array([[0.6, 0, 0.5, 0.9, 0, 0, 0.5]], np.float32)

    assert centre_of_mass(alpha, 0.5, Size(7, 1)) == pytest.approx((2.3, 0.5))


def test_the_centre_of_mass_is_in_source_pixels():
    alpha = np.zeros((4, 4), np.float32)
    alpha[1, 2:4] = 1

    assert centre_of_mass(alpha, 0.8, Size(400, 200)) == pytest.approx((300, 75))


def test_a_map_with_nothing_above_the_threshold_has_no_centre_of_mass():
    assert centre_of_mass(np.full((4, 4), 0.8, np.float32), 0.8, Size(4, 4)) is None


# Worked examples of the padding rule, p = 0.2

SWORD = Box(0, 0, 20, 100)
HAMMER = Box(0, 0, 60, 100)
BALL = Box(0, 0, 100, 100)
EXAMPLES = {
    # The crop's side is 1.2 * 100; the margin to keep is 0.2 / 4 * 100 = 5 at every edge.
    "plain: the middle of the box in the middle of the crop": (SWORD, (10, 70), False, 1.0, (-50, -10, 120, 120)),
    "ball: mass in the middle is as plain": (BALL, (50, 50), True, 1.0, (-10, -10, 120, 120)),
    "ball: mass a little off is in the middle": (BALL, (53, 48), True, 1.0, (-7, -12, 120, 120)),
    "sword: low mass, stopped by the top margin": (SWORD, (10, 70), True, 1.0, (-50, -5, 120, 120)),
    "hammer: high mass, stopped by the bottom margin": (HAMMER, (30, 25), True, 1.0, (-30, -15, 120, 120)),
    # Elongated (100 / 60 > 1.5): the short axis keeps 1.5 * 5 = 7.5; 59 is wanted in the middle, left -1.
    "hammer: the short axis keeps more": (HAMMER, (59, 50), True, 1.0, (-7.5, -10, 120, 120)),
    # 100 / 70 is not elongated: left = 69 - 60 = 9, kept at -5.
    "a stout box keeps the plain margin": (Box(0, 0, 70, 100), (69, 50), True, 1.0, (-5, -10, 120, 120)),
    # Output 2:1: the height binds (100 * 1.2), the width follows.
    "wide output, tall object": (SWORD, (10, 50), True, 2.0, (-110, -10, 240, 120)),
    # Output 2:1, 150 x 100, not elongated: 1.2 * 100 > 1.2 * 150 / 2.
    "wide output, short side binds": (Box(0, 0, 150, 100), (75, 50), True, 2.0, (-45, -10, 240, 120)),
    # Output 2:1, 160 x 100, elongated: the short side's padding is 0.2 * 1.5: 130 high, 260 wide.
    "wide output, the factor sizes the crop": (Box(0, 0, 160, 100), (80, 50), True, 2.0, (-50, -15, 260, 130)),
    "wide output, plain: no factor": (Box(0, 0, 160, 100), (80, 50), False, 2.0, (-40, -10, 240, 120)),
    # Output 4:1, 300 x 100: 130 high; both margins of 1.5 * 0.05 * 300 = 22.5 need 145: centred on the box.
    "no room for both margins": (Box(0, 0, 300, 100), (150, 90), True, 4.0, (-110, -15, 520, 130)),
}


@pytest.mark.parametrize(("box", "centre", "smart", "aspect", "expected"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_the_crop_of_a_worked_example(box, centre, smart, aspect, expected):
    crop = crop_box(box, Point(*centre), padding=0.2, smart=smart, adaptive_factor=1.5, aspect=aspect)

    assert dataclasses.astuple(crop) == pytest.approx(expected)


def test_no_factor_changes_the_size_of_a_square_crop():
    crop = crop_box(Box(0, 0, 60, 100), Point(30, 50), padding=1.0, smart=True, adaptive_factor=10.0, aspect=1.0)

    assert (crop.width, crop.height) == (200, 200)


# Properties


@given(scenes(), smart_or_plain)
def test_the_crop_holds_the_whole_box(scene, smart):
    assert min(margins(scene.box, scene.crop(smart=smart))) >= -EXACT * scene.long


@given(scenes(), smart_or_plain)
def test_the_crop_has_the_outputs_aspect(scene, smart):
    crop = scene.crop(smart=smart)

    assert crop.width / crop.height == pytest.approx(scene.aspect, rel=1e-12)


@given(scenes(square=True), smart_or_plain)
def test_the_objects_share_of_a_square_crop_is_one_over_one_plus_p(scene, smart):
    crop = scene.crop(smart=smart)

    assert scene.long / crop.width == pytest.approx(1 / (1 + scene.padding), rel=1e-12)


@given(scenes(), smart_or_plain)
def test_the_share_along_the_binding_axis_is_one_over_one_plus_p(scene, smart):
    assume(not smart or scene.long <= ELONGATED * scene.short)
    crop = scene.crop(smart=smart)
    share = max(scene.box.width / crop.width, scene.box.height / crop.height)

    assert share == pytest.approx(1 / (1 + scene.padding), rel=1e-12)


@given(scenes())
def test_the_factor_pads_the_short_side_of_an_elongated_box_where_that_binds(scene):
    assume(scene.long > ELONGATED * scene.short and scene.aspect != 1)
    crop = scene.crop()
    short_padding = 1 + scene.padding * scene.factor
    if scene.box.width > scene.box.height:
        long_fill, short_fill = scene.long * (1 + scene.padding) / crop.width, scene.short * short_padding / crop.height
    else:
        long_fill, short_fill = scene.long * (1 + scene.padding) / crop.height, scene.short * short_padding / crop.width

    assert max(long_fill, short_fill) == pytest.approx(1, rel=1e-12)


@given(scenes(square=True))
def test_every_edge_along_the_long_side_keeps_a_quarter_of_the_padding(scene):
    left, right, top, bottom = margins(scene.box, scene.crop())
    along = (left, right) if scene.box.width >= scene.box.height else (top, bottom)

    assert min(along) >= scene.padding / 4 * scene.long - EXACT * scene.long


@given(scenes())
def test_a_margin_falls_short_only_where_the_object_is_centred_on_its_box(scene):
    left, right, top, bottom = margins(scene.box, scene.crop())
    slim_x = scene.long > ELONGATED * scene.box.width
    slim_y = scene.long > ELONGATED * scene.box.height
    for pair, slim in (((left, right), slim_x), ((top, bottom), slim_y)):
        required = scene.padding / 4 * scene.long * (scene.factor if slim else 1)
        kept = min(pair) >= required - EXACT * scene.long
        assert kept or pair[0] == pytest.approx(pair[1], abs=EXACT * scene.long)


@given(scenes())
def test_the_crop_is_off_the_centre_of_mass_only_as_far_as_a_margin_forces(scene):
    crop = scene.crop()
    left, right, top, bottom = margins(scene.box, crop)
    axes = (
        (crop.center.x - scene.centre.x, left, right, scene.box.width),
        (crop.center.y - scene.centre.y, top, bottom, scene.box.height),
    )
    for off, before, after, side in axes:
        required = scene.padding / 4 * scene.long * (scene.factor if scene.long > ELONGATED * side else 1)
        # A crop to the right of the mass would come nearer by moving left, which takes from the margin on the right.
        limiting = after if off > 0 else before
        assert abs(off) < 1e-6 or limiting <= required + 1e-6


@given(scenes(), smart_or_plain, quarters(-2000, 2000), quarters(-2000, 2000))
def test_the_crop_moves_with_the_image(scene, smart, dx, dy):
    box = Box(scene.box.left + dx, scene.box.top + dy, scene.box.right + dx, scene.box.bottom + dy)
    moved = dataclasses.replace(scene, box=box, centre=Point(scene.centre.x + dx, scene.centre.y + dy))
    crop = scene.crop(smart=smart)
    expected = CropBox(crop.left + dx, crop.top + dy, crop.width, crop.height)

    assert dataclasses.astuple(moved.crop(smart=smart)) == approx(expected)


@given(scenes(), smart_or_plain)
def test_the_crop_of_a_mirrored_image_is_the_mirrored_crop(scene, smart):
    axis = 1000.0
    box = Box(axis - scene.box.right, scene.box.top, axis - scene.box.left, scene.box.bottom)
    mirrored = dataclasses.replace(scene, box=box, centre=Point(axis - scene.centre.x, scene.centre.y))
    crop = scene.crop(smart=smart)
    expected = CropBox(axis - crop.left - crop.width, crop.top, crop.width, crop.height)

    assert dataclasses.astuple(mirrored.crop(smart=smart)) == approx(expected)


@given(scenes(), smart_or_plain)
def test_the_crop_of_a_transposed_image_is_the_transposed_crop(scene, smart):
    box = Box(scene.box.top, scene.box.left, scene.box.bottom, scene.box.right)
    transposed = dataclasses.replace(
        scene, box=box, centre=Point(scene.centre.y, scene.centre.x), aspect=1 / scene.aspect
    )
    crop = scene.crop(smart=smart)
    expected = CropBox(crop.top, crop.left, crop.height, crop.width)

    assert dataclasses.astuple(transposed.crop(smart=smart)) == approx(expected)


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """A soft random patch on a small map: anywhere, at the border, as large as the map, one pixel wide."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    rows, columns = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    alpha = np.zeros((height, width), np.float32)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alpha[top : top + rows, left : left + columns] = random.random((rows, columns))
    return alpha


@given(maps(), st.integers(1, 5000), st.integers(1, 5000), st.floats(0, 1), st.floats(0.1, 10), smart_or_plain)
def test_no_pixel_above_the_threshold_is_cut(alpha, source_width, source_height, padding, aspect, smart):
    source = Size(source_width, source_height)
    box, centre = foreground_box(alpha, 0.6, source), centre_of_mass(alpha, 0.6, source)
    assume(box is not None)
    crop = crop_box(box, centre, padding=padding, smart=smart, adaptive_factor=1.5, aspect=aspect)
    rows, columns = np.nonzero(alpha > np.float32(0.6))
    pixel_width, pixel_height = source_width / alpha.shape[1], source_height / alpha.shape[0]

    assert crop.left <= columns.min() * pixel_width + 1e-6
    assert crop.top <= rows.min() * pixel_height + 1e-6
    assert crop.left + crop.width >= (columns.max() + 1) * pixel_width - 1e-6
    assert crop.top + crop.height >= (rows.max() + 1) * pixel_height - 1e-6


@given(maps())
def test_a_mirrored_map_is_framed_mirrored(alpha):
    source = Size(alpha.shape[1], alpha.shape[0])

    def frame(pixels: np.ndarray) -> CropBox:
        box, centre = foreground_box(pixels, 0.6, source), centre_of_mass(pixels, 0.6, source)
        assume(box is not None)
        return crop_box(box, centre, padding=0.2, smart=True, adaptive_factor=1.5)

    crop, mirrored = frame(alpha), frame(np.ascontiguousarray(alpha[:, ::-1]))

    assert mirrored.left == pytest.approx(source.width - crop.left - crop.width, abs=1e-4)
    assert (mirrored.top, mirrored.width) == pytest.approx((crop.top, crop.width), abs=1e-4)


# The whole image


def test_the_full_frame_is_the_image_itself():
    assert full_frame(Size(640, 480)) == CropBox(0, 0, 640, 480)


def test_the_full_frame_of_a_wider_output_reaches_over_both_sides():
    assert full_frame(Size(100, 50), aspect=4.0) == CropBox(-50, 0, 200, 50)


def test_the_full_frame_of_a_taller_output_reaches_over_top_and_bottom():
    assert full_frame(Size(100, 50), aspect=0.5) == CropBox(0, -75, 100, 200)
