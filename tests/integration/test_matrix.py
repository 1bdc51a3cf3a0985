"""Drawn objects of every kind through the whole service: the tiny network gives back what was drawn, so that box, crop,
share, alpha and metrics are known.

Tolerances. The network sees the picture stretched to 1024 x 1024, so nothing finer than a *grain* survives: one source
pixel, or 1/1024 of the side where that is more. Stretching and coming back are interpolations that reach a grain each,
and the last resampling reaches a source or an output pixel: beyond that from an edge every number is exact.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from scenes import Scene, box_of, centre_of_mass, curls, ellipse, rectangle, red_picture, smart_crop, star

import cutstream

PADDING = 0.2
# Rounding to 8 bits for the network (2 levels, half a level in the picture) and the alpha floor of 0.01.
ALPHA_TOLERANCE = 0.01 + 2.5 / 255
# Where a threshold of 0.8 crosses a blurred straight edge: less than a grain inside it, plus the box's whole pixels.
EDGE_GRAINS = 2


@dataclass(frozen=True)
class Case:
    """A scene, the threshold that its object is found at, and how far its box may be off, in grains."""

    scene: Scene
    threshold: float = 0.8
    box_grains: float = EDGE_GRAINS
    parts: int = 1
    validation: str = "ok"
    touches_border: bool = False


def low_contrast(x, y):
    """0.62 on 0.3: no more than 80 levels between object and background."""
    return np.where(ellipse(x, y, (260, 200), (120, 90)), 0.62, 0.3)


def ramp(x, y):
    """A bar whose alpha rises from 0 to 1 over 400 pixels."""
    return np.clip((x - 100) / 400, 0, 1) * rectangle(x, y, 100, 120, 560, 340)


def halo(x, y):
    """A ball with a soft rim: alpha falls from 1 to 0 over 60 pixels."""
    return np.clip((180 - np.hypot(x - 320, y - 300)) / 60, 0, 1)


def three(x, y):
    return (
        ellipse(x, y, (120, 140), (60, 60)) | ellipse(x, y, (420, 180), (90, 80)) | rectangle(x, y, 230, 300, 330, 380)
    )


def hammer(x, y):
    """A heavy head at one end of a long handle: the centre of mass is far from the middle of the box."""
    return rectangle(x, y, 120, 100, 330, 190) | rectangle(x, y, 210, 190, 240, 560)


def crescent(x, y):
    return ellipse(x, y, (400, 300), (210, 210)) & ~ellipse(x, y, (470, 280), (180, 180))


def disc_in(width, height):
    """An ellipse over 60% of both sides, which fits a picture of any aspect."""
    return Scene(width, height, lambda x, y: ellipse(x, y, (width / 2, height / 2), (0.3 * width, 0.3 * height)))


CASES = {
    "curved edges": Case(Scene(800, 600, crescent), box_grains=4),  # the crescent's horns are blurred away
    "sharp corners": Case(
        Scene(900, 700, lambda x, y: star(x, y, (430, 360), 300)), box_grains=5
    ),  # a tip of 36 degrees is a grain wide only 1.5 grains from its end
    "hair-like strands": Case(
        Scene(1024, 1024, lambda x, y: curls(x, y, (500, 520), 200, 160, 48, 3)), box_grains=4
    ),  # strands of 3 pixels: their ends may miss 0.8 by a fraction of a pixel
    "asymmetric": Case(Scene(640, 640, hammer)),
    "off-centre": Case(Scene(800, 600, lambda x, y: ellipse(x, y, (690, 480), (80, 80))), validation="too_small"),
    "at the border": Case(Scene(640, 480, lambda x, y: ellipse(x, y, (0, 240), (200, 150))), touches_border=True),
    "very large": Case(Scene(1200, 900, lambda x, y: rectangle(x, y, 4, 4, 1196, 896)), validation="too_large"),
    "very small": Case(Scene(640, 480, lambda x, y: ellipse(x, y, (200, 140), (9, 9))), validation="too_small"),
    # No pixel is above 0.8: the box is taken at MASK_THRESHOLD_MIN.
    "semi-transparent": Case(Scene(600, 600, lambda x, y: 0.7 * ellipse(x, y, (280, 310), (170, 120))), 0.5),
    "low contrast": Case(Scene(512, 400, low_contrast), 0.5),
    # A level of the 8-bit picture is 1.6 pixels of this ramp, and 0.2 of the halo's.
    "gradient": Case(Scene(640, 480, ramp), box_grains=4),
    "soft rim": Case(Scene(640, 600, halo)),
    "several objects": Case(Scene(600, 450, three), parts=3),
    "64 x 64": Case(disc_in(64, 64)),
    "64 x 640, aspect 1:10": Case(disc_in(64, 640)),
    "640 x 64, aspect 10:1": Case(disc_in(640, 64)),
    "333 x 517": Case(disc_in(333, 517)),
    "2048 x 1536": Case(disc_in(2048, 1536)),
    "410 x 4096, aspect 1:10": Case(disc_in(410, 4096)),
    "4096 x 410, aspect 10:1": Case(disc_in(4096, 410)),
    "4096 x 4096": Case(disc_in(4096, 4096)),
}


@functools.cache
def drawn(name):
    """The picture's own alpha, in the 256 levels that the file has."""
    return np.rint(CASES[name].scene.alpha() * 255).astype(np.float32) / 255


@pytest.fixture(scope="module")
def cutouts(server):
    """Answers by name, each asked for once."""
    with server.client() as client:

        @functools.cache
        def of(name):
            return client.remove(
                red_picture(drawn(name)),
                model="tiny",
                profile="fast",
                channels="alpha",
                output_format="raw",
                sample_type="float32",
            )

        yield of


@pytest.fixture(scope="module")
def drawings(cutouts):
    """What the cutouts must show, by name: the drawing seen through their crop, at their size."""

    @functools.cache
    def of(name):
        cutout = cutouts(name)
        crop = cutout.crop
        window = (crop.left_px, crop.top_px, crop.width_px, crop.height_px)
        return CASES[name].scene.alpha(window, (cutout.width_px, cutout.height_px), samples=8)

    return of


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def case(name):
    return CASES[name]


@pytest.fixture
def cutout(cutouts, name):
    return cutouts(name)


@pytest.fixture
def alpha(cutout):
    return cutout.array.reshape(cutout.height_px, cutout.width_px)


@pytest.fixture
def drawing(drawings, name):
    return drawings(name)


@pytest.fixture
def truth_box(name, case):
    return box_of(drawn(name), case.threshold)


def rect_of(box):
    return np.array([box.left_px, box.top_px, box.left_px + box.width_px, box.top_px + box.height_px])


def edges(rect):
    return np.array([rect.left, rect.top, rect.right, rect.bottom])


def box_tolerance(case):
    across, down = case.scene.grain
    return case.box_grains * np.array([across, down, across, down])


def test_the_threshold_used_is_reported(cutout, case):
    assert cutout.metrics.threshold == pytest.approx(case.threshold, abs=1e-6)


def test_the_foreground_box_is_that_of_the_drawing(cutout, case, truth_box):
    off = np.abs(rect_of(cutout.metrics.foreground_box) - edges(truth_box))
    assert (off <= box_tolerance(case)).all(), off


def test_the_object_takes_its_exact_share_of_a_square(cutout):
    box, crop = cutout.metrics.foreground_box, cutout.crop
    assert crop.width_px == crop.height_px
    assert max(box.width_px, box.height_px) / crop.width_px == pytest.approx(1 / (1 + PADDING), rel=1e-12)


def test_the_crop_lies_where_smart_padding_puts_it(name, cutout, case, truth_box):
    expected = smart_crop(truth_box, centre_of_mass(drawn(name), case.threshold), PADDING)
    # Each edge of the crop follows from both edges of the box: one side's error is at most that of both, padded.
    assert (np.abs(rect_of(cutout.crop) - edges(expected)) <= 2 * (1 + PADDING) * box_tolerance(case)).all()


def test_no_pixel_of_the_object_is_cut(name, cutout, case):
    """Every pixel that the drawing has above the threshold is inside the crop, but for what the grain hides."""
    crop = cutout.crop
    mask = drawn(name) > case.threshold
    across, down = (case.box_grains * grain for grain in case.scene.grain)
    x, y = np.arange(mask.shape[1]), np.arange(mask.shape[0])
    columns = (x >= crop.left_px - across) & (x + 1 <= crop.left_px + crop.width_px + across)
    rows = (y >= crop.top_px - down) & (y + 1 <= crop.top_px + crop.height_px + down)
    assert not mask[~rows].any()
    assert not mask[:, ~columns].any()


def test_the_alpha_is_the_drawing_seen_through_the_crop(cutout, case, alpha, drawing):
    """Between the least and the largest alpha that the drawing has within reach of the interpolations."""
    pitch = cutout.crop.width_px / cutout.width_px
    reach = [int(np.ceil((2 * grain + 0.5 + max(1, pitch)) / pitch)) for grain in case.scene.grain]
    window = np.ones((2 * reach[1] + 1, 2 * reach[0] + 1), np.uint8)
    assert (alpha >= cv2.erode(drawing, window) - ALPHA_TOLERANCE).all()
    assert (alpha <= cv2.dilate(drawing, window) + ALPHA_TOLERANCE).all()


def test_the_amount_of_alpha_is_that_of_the_drawing(alpha, drawing):
    """Interpolation spreads alpha and keeps its sum: 1%, and what the floor takes from the outermost rim."""
    assert alpha.sum(dtype=float) == pytest.approx(drawing.sum(dtype=float), rel=0.015)


def test_the_alpha_has_the_place_of_the_drawing(cutout, case, alpha, drawing):
    """Symmetric kernels keep the centre of mass: a shift by half a pixel anywhere on the way would show."""
    pitch = cutout.crop.width_px / cutout.width_px
    off = (np.array(centre_of_mass(alpha, 0)) - centre_of_mass(drawing, 0)) * pitch / case.scene.grain
    assert (np.abs(off) < 0.25).all(), off


def test_the_coverages_are_those_of_the_drawing(name, cutout, case):
    """Off by no more pixels than lie within half a grain of the outline."""
    mask, metrics = drawn(name), cutout.metrics
    across, down = case.scene.grain
    window = np.ones((2 * int(np.ceil(down)) + 1, 2 * int(np.ceil(across)) + 1), np.uint8)
    for measured, threshold in ((metrics.object_coverage_ratio, case.threshold), (metrics.alpha_coverage, 0.5)):
        object_pixels = (mask > threshold).astype(np.uint8)
        least, most = cv2.erode(object_pixels, window).mean(), cv2.dilate(object_pixels, window).mean()
        assert least <= measured <= most


def test_the_mean_is_that_of_the_drawing(name, cutout):
    assert cutout.metrics.mask_confidence_mean == pytest.approx(drawn(name).mean(dtype=float), rel=0.015)


def test_the_aspect_ratio_is_that_of_the_drawing(cutout, case, truth_box):
    across, down = (2 * case.box_grains * grain for grain in case.scene.grain)
    narrow = (truth_box.width - across) / (truth_box.height + down)
    wide = (truth_box.width + across) / max(1, truth_box.height - down)
    assert narrow <= cutout.metrics.aspect_ratio <= wide


def test_the_parts_are_counted(cutout, case):
    assert cutout.metrics.component_count == case.parts


def test_the_size_is_validated(cutout, case):
    assert cutout.metrics.validation == case.validation


def test_only_what_touches_the_border_says_so(cutout, case):
    assert cutout.metrics.touches_border is case.touches_border


def test_the_offset_is_from_the_crops_middle_to_the_centre_of_mass(name, cutout, case):
    x, y = centre_of_mass(drawn(name), case.threshold)
    crop, centering = cutout.crop, cutout.metrics.centering
    across, down = (case.box_grains * grain for grain in case.scene.grain)
    assert centering.offset_x_px == pytest.approx(x - crop.left_px - crop.width_px / 2, abs=across)
    assert centering.offset_y_px == pytest.approx(y - crop.top_px - crop.height_px / 2, abs=down)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.49])
def test_a_background_without_object_is_no_object(client, level):
    """Also an even 0.3 or 0.49, which stretching to the full range would turn into an object."""
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(red_picture(np.full((300, 400), level)), model="tiny", profile="fast")
    assert caught.value.reason == "NO_OBJECT"
    assert caught.value.metrics.validation == "no_object"
    assert caught.value.metrics.mask_confidence_mean == pytest.approx(round(level * 255) / 255, abs=1e-3)


def test_of_several_objects_the_largest_is_kept_on_request(client):
    case = CASES["several objects"]
    largest = Scene(600, 450, lambda x, y: ellipse(x, y, (420, 180), (90, 80)))
    cutout = client.remove(red_picture(drawn("several objects")), model="tiny", keep_components="largest")
    off = np.abs(rect_of(cutout.metrics.foreground_box) - edges(box_of(largest.alpha(), 0.8)))
    assert (off <= box_tolerance(case)).all()
    assert cutout.metrics.component_count == 1


def test_of_several_objects_the_others_are_gone_when_the_largest_is_kept(client):
    cutout = client.remove(
        red_picture(drawn("several objects")),
        model="tiny",
        keep_components="largest",
        framing="full",
        channels="alpha",
        output_format="raw",
    )
    alpha = cutout.array.reshape(450, 600)
    assert alpha[180, 420] == 255
    assert alpha[140, 120] == alpha[340, 280] == 0


@pytest.mark.real_model
def test_the_real_network_finds_a_vase_before_a_complex_background(client):
    picture, truth = vase_before_colours()
    cutout = client.remove(picture, framing="full", channels="alpha", output_format="raw")
    found = cutout.array.reshape(truth.shape) > 127
    assert (found & truth).sum() / (found | truth).sum() > 0.98


def vase_before_colours():
    """A shaded red vase before blotches, stripes and noise of all colours, as a PNG; and where it is."""
    height, width = 600, 800
    y, x = np.mgrid[:height, :width] + 0.5
    random = np.random.default_rng(3)
    blotches = random.integers(40, 200, (12, 16, 3)).astype(np.float32)
    background = cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    background += 25 * np.sin(x / 9 + y / 23)[..., np.newaxis] + random.normal(0, 12, background.shape)
    half_width = np.interp(y, [110, 130, 190, 320, 440, 480, 500], [60, 55, 40, 130, 90, 60, 75])
    truth = (np.abs(x - 400) < half_width) & (y >= 110) & (y < 500)
    shade = np.clip(0.55 + 0.5 * np.cos((x - 340) / 140), 0.2, 1)
    vase = shade[..., np.newaxis] * np.array([40, 60, 220])
    scene = np.clip(np.where(truth[..., np.newaxis], vase, background), 0, 255)
    picture = cv2.GaussianBlur(scene, (0, 0), 0.8).astype(np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes(), truth
