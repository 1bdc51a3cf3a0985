"""The ten improvements, one test each: it fails when the improvement is switched off or taken out.

Pictures of 1024 x 1024 pixels come to the network as they are, so that their numbers are exact.
"""

import cv2
import numpy as np
import pytest
from PIL import Image
from scenes import Rect, centre_of_mass, network_mask, red_picture, rgba_picture, smart_crop
from scipy import ndimage
from skimage.filters import threshold_otsu

import cutstream

SIDE = 1024


@pytest.fixture
def remove(client):
    """Makes a cutout by way of the tiny network, in one pass: its answer is the mask to the bit."""

    def run(picture, **options):
        return client.remove(picture, **{"model": "tiny", "profile": "fast", **options})

    return run


def canvas(*parts, side=SIDE):
    """A mask of rectangles: each a value, left, top, right, bottom."""
    mask = np.zeros((side, side), np.float32)
    for value, left, top, right, bottom in parts:
        mask[top:bottom, left:right] = value
    return mask


def pixels_of(cutout):
    return cv2.imdecode(np.frombuffer(cutout.data, np.uint8), cv2.IMREAD_UNCHANGED)


def corners(box):
    return box.left_px, box.top_px, box.width_px, box.height_px


def test_1_alpha_passthrough(remove):
    """Transparency of the input is the mask, framed and measured; what it hides is not in the cutout."""
    alpha = np.zeros((300, 400), np.uint8)
    alpha[100:180, 150:310] = 255
    alpha[180:200, 150:310] = 128
    # Red is 0 where alpha is 255: the network would find the inverse.
    rgb = np.dstack([255 - alpha, np.full_like(alpha, 90), np.full_like(alpha, 200)])
    cutout = remove(rgba_picture(rgb, alpha), framing="full", estimate_foreground=False)
    metrics = cutout.metrics
    assert (metrics.alpha_source, metrics.model_name) == ("input", "")
    assert corners(metrics.foreground_box) == (150, 100, 160, 80)
    assert metrics.mask_confidence_mean == pytest.approx((160 * 80 + 160 * 20 * 128 / 255) / (300 * 400), abs=1e-4)
    expected = np.dstack([rgb[..., ::-1] * (alpha > 0)[..., np.newaxis], alpha])
    assert (pixels_of(cutout) == expected).all()


def test_2_mask_precision(remove):
    """16 bits of alpha come back to the last; 8 bits on request; the network's mask is not cut to 256 levels."""
    levels = np.tile(np.arange(0, 65536, 64, dtype=np.uint16), (64, 1))
    picture = rgba_picture(np.full((*levels.shape, 3), 30000, np.uint16), levels)
    deep = {"framing": "full", "channels": "alpha", "sample_type": "uint16", "alpha_floor": 0.0}
    assert (pixels_of(remove(picture, **deep)) == levels).all()
    eight_bits = np.rint(np.rint(levels / 65535 * 255) / 255 * 65535)
    assert (pixels_of(remove(picture, **deep, mask_quantization_bits=8)) == eight_bits).all()
    # From 1024 network pixels to 1500: most lie between two of the 256 levels that the network gives.
    ramp = red_picture(np.tile(np.linspace(0, 1, 1500), (64, 1)))
    assert len(np.unique(pixels_of(remove(ramp, **deep)))) > 2 * 256


def test_3_threshold(remove):
    """Otsu's threshold finds the object that a fixed one does not, and all that is used is clamped and reported."""
    mask = canvas((0.65, 0, 0, SIDE, SIDE), (0.75, 300, 400, 700, 600))
    picture = red_picture(mask)
    levels = np.rint(mask * 255).astype(np.uint8)
    reference = threshold_otsu(levels)
    assert reference == cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)[0]

    adaptive = remove(picture, use_adaptive_threshold=True).metrics
    # Between the level that the references name and the next one; both take "above" for the object.
    assert adaptive.threshold == adaptive.otsu_threshold == pytest.approx((reference + 0.5) / 255, abs=1e-6)
    assert corners(adaptive.foreground_box) == (300, 400, 400, 200)

    fixed = remove(picture).metrics
    assert fixed.otsu_threshold == adaptive.otsu_threshold
    # Nothing is above 0.8: like glass, it is boxed at MASK_THRESHOLD_MIN, here with all of its background.
    assert fixed.threshold == 0.5
    assert corners(fixed.foreground_box) == (0, 0, SIDE, SIDE)

    assert corners(remove(picture, mask_threshold=0.7).metrics.foreground_box) == (300, 400, 400, 200)
    clamped = remove(picture, use_adaptive_threshold=True, mask_threshold_min=0.7).metrics
    assert clamped.threshold == 0.7
    assert clamped.otsu_threshold == adaptive.otsu_threshold


def pillow_reduced(rgb, alpha, size, kernel):
    """Premultiplied, resized in float by Pillow, clamped, divided by alpha; 0 to 1."""
    planes = [*(np.moveaxis(rgb, -1, 0) * (alpha / 255)), alpha]
    resized = [np.asarray(Image.fromarray(np.float32(plane / 255)).resize(size, kernel)) for plane in planes]
    opacity = np.clip(resized[3], 0, 1)
    colour = np.clip(np.dstack(resized[:3]), 0, opacity[..., np.newaxis])
    return np.dstack([colour / np.maximum(opacity, 1e-12)[..., np.newaxis], opacity])


def test_4_antialiasing_and_interpolation(remove):
    """A quarter of the size by each kernel is Pillow's float result within 1 of 255; without antialiasing, OpenCV's."""
    random = np.random.default_rng(4)
    rgb = random.integers(0, 256, (600, 600, 3)).astype(np.uint8)
    # Blocks of all opacities: low ones are where colour that is not premultiplied goes wrong.
    alpha = np.kron(random.integers(0, 256, (60, 60)), np.ones((10, 10))).astype(np.uint8)
    picture = rgba_picture(rgb, alpha)

    def reduced(**options):
        cutout = remove(
            picture,
            framing="full",
            output_width_px=150,
            output_format="raw",
            sample_type="float32",
            alpha_floor=0.0,
            profile="fast",
            **options,
        )
        return cutout.array

    kernels = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    for mode, kernel in kernels.items():
        expected = pillow_reduced(rgb, alpha, (150, 150), kernel)
        difference = np.abs(reduced(interpolation_mode=mode) - expected)
        assert difference[expected[..., 3] > 0].max() <= 1 / 255, mode
        assert np.abs(reduced(interpolation_mode=mode, enable_antialiasing=False) - expected).mean() > 0.02, mode

    premultiplied = np.dstack([rgb * (alpha / 255)[..., np.newaxis], alpha]).astype(np.float32) / 255
    skipped = cv2.resize(premultiplied, (150, 150), interpolation=cv2.INTER_LINEAR)
    ours = reduced(enable_antialiasing=False)
    ours = np.dstack([ours[..., :3] * ours[..., 3:], ours[..., 3]])
    assert np.abs(ours - skipped).max() <= 1 / 255

    nearest = np.dstack([rgb * (alpha > 0)[..., np.newaxis], alpha])[2::4, 2::4] / 255
    assert np.abs(reduced(interpolation_mode="nearest") - nearest).max() <= 1e-6


def test_5_smart_padding(remove):
    """The crop follows the centre of mass as far as the margins allow, and its size never changes."""
    # A mast of 16 x 400 with a thin flag to the right: the box is 258 x 400, more than 1.5 times as high as wide.
    mask = canvas((1, 300, 300, 316, 700), (1, 316, 300, 558, 304))
    picture, box, centre = red_picture(mask), Rect(300, 300, 258, 400), centre_of_mass(mask, 0.8)

    def crop(**options):
        return corners(remove(picture, **options).crop)

    def expected(factor):
        rule = smart_crop(box, centre, factor=factor)
        return rule.left, rule.top, rule.width, rule.height

    side = 400 * 1.2
    assert crop(use_smart_padding=False) == pytest.approx((429 - side / 2, 500 - side / 2, side, side))
    # The least that keeps 0.05 * 400 * factor right of the flag: left = 558 + 20 * factor - 480.
    assert expected(1.5)[0] == 108
    for factor in (1.0, 1.5, 3.0):
        assert crop(adaptive_padding_factor=factor) == pytest.approx(expected(factor), abs=1e-3), factor
    wide = crop(padding_percentage=0.5)
    assert wide == pytest.approx((*corners_of(smart_crop(box, centre, padding=0.5)),), abs=1e-3)
    assert wide[2] == 400 * 1.5


def corners_of(rect):
    return rect.left, rect.top, rect.width, rect.height


def test_6_edge_refinement(client):
    """A blurred mask is sharpened where colours tell the object."""
    side = 512
    y, x = np.mgrid[:side, :side] + 0.5
    truth = np.clip(150 - np.hypot(x - side / 2, y - side / 2) + 0.5, 0, 1)
    # Red is the mask that the network will give, blurred; green and blue show the true edge.
    red = cv2.GaussianBlur(truth, (0, 0), 2) * 255
    picture = np.rint(np.dstack([20 + 200 * truth, 230 - 200 * truth, red])).astype(np.uint8)
    data = cv2.imencode(".png", picture)[1].tobytes()

    def error(**options):
        cutout = client.remove(
            data, model="tiny", framing="full", channels="alpha", output_format="raw", profile="fast", **options
        )
        return np.abs(cutout.array.reshape(side, side) / 255 - truth).mean()

    # Unless asked for, the mask is what the network gave; interpolating it to 1024 and back adds 4 percent.
    assert error() == pytest.approx(np.abs(red / 255 - truth).mean(), rel=0.06)
    assert error(enable_edge_refinement=True, edge_refinement_radius=10) < 0.7 * error()


def test_7_centering_validation(remove):
    """Offset = centre of mass - middle of the crop; well centred within a tenth of the crop; score by hand."""
    mask = canvas((1, 300, 300, 400, 700), (1, 400, 300, 700, 310))
    # Two rectangles: 100 x 400 with its middle at 350, 500 and 300 x 10 at 550, 305.
    x = (40000 * 350 + 3000 * 550) / 43000
    y = (40000 * 500 + 3000 * 305) / 43000
    plain = remove(red_picture(mask), use_smart_padding=False).metrics.centering
    side = 400 * 1.2
    assert (plain.offset_x_px, plain.offset_y_px) == pytest.approx((x - 500, y - 500), abs=1e-3)
    assert (plain.offset_x_ratio, plain.offset_y_ratio) == pytest.approx(((x - 500) / side, (y - 500) / side), abs=1e-5)
    assert plain.well_centered is False
    assert plain.score == 0

    square = canvas((1, 300, 300, 500, 500), (1, 500, 300, 520, 310))
    x, limit = (40000 * 400 + 200 * 510) / 40200, 0.1 * 220 * 1.2
    y = (40000 * 400 + 200 * 305) / 40200
    near = remove(red_picture(square), use_smart_padding=False).metrics.centering
    assert near.well_centered is True
    assert near.score == pytest.approx(1 - max(abs(x - 410), abs(y - 400)) / limit, abs=1e-4)

    # With smart padding the same object sits in the middle.
    assert remove(red_picture(square)).metrics.centering.score == pytest.approx(1, abs=1e-4)


def test_8_object_size_validation(remove):
    """Too small and too large are flagged, or rejected with both ratios, or let pass."""
    small, large = canvas((1, 500, 500, 564, 564)), canvas((1, 2, 2, 1022, 1022))
    for mask, flag, reason, allowed in (
        (small, "too_small", "OBJECT_TOO_SMALL", 0.05),
        (large, "too_large", "OBJECT_TOO_LARGE", 0.95),
    ):
        picture, coverage = red_picture(mask), mask.mean(dtype=float)
        assert remove(picture).metrics.validation == flag
        assert remove(picture, object_validation="off").metrics.validation == "ok"
        with pytest.raises(cutstream.CutoutError) as caught:
            remove(picture, object_validation="reject")
        assert caught.value.reason == reason
        assert {key: float(value) for key, value in caught.value.metadata.items()} == pytest.approx(
            {"measured": coverage, "allowed": allowed}
        )
        assert caught.value.metrics.validation == flag
    # Each limit moved to what is there: just enough, and not too much.
    assert remove(red_picture(small), min_object_coverage=64**2 / SIDE**2).metrics.validation == "ok"
    assert remove(red_picture(large), max_object_coverage=1020**2 / SIDE**2).metrics.validation == "ok"


def test_9_multi_scale(remove):
    """The median over the network's answers at the squares round32(1024 * factor), each brought back to 1024."""
    red = np.kron(np.random.default_rng(9).integers(0, 2, (256, 256)), np.ones((4, 4))).astype(np.uint8) * 255
    whole = {"framing": "full", "channels": "alpha", "output_format": "raw", "alpha_floor": 0.0}

    def alpha(**options):
        return remove(red_picture(red / 255), **whole, **options).array.reshape(SIDE, SIDE) / 255

    def expected(*sides):
        answers = [network_mask(red, side) for side in sides]
        return np.median([cv2.resize(answer, (SIDE, SIDE)) for answer in answers], axis=0)

    # 0.8 * 1024 = 819.2 and 1.2 * 1024 = 1228.8 to multiples of 32.
    default = alpha(enable_multi_scale=True)
    # Weights of 8 bits, two roundings and a clip on the way to the network.
    assert np.abs(default - expected(832, 1024, 1216)).max() <= 3 / 255
    assert np.abs(default - alpha()).max() > 0.2
    three = alpha(enable_multi_scale=True, multi_scale_factors=(0.25, 0.5, 1.0))
    assert np.abs(three - expected(256, 512, 1024)).max() <= 3 / 255
    assert np.abs(alpha(multi_scale_factors=(0.25, 0.5, 1.0)) - red / 255).max() <= 1e-6


MEASURED = (
    "mask_confidence_mean",
    "mask_confidence_std",
    "alpha_coverage",
    "soft_edge_ratio",
    "object_coverage_ratio",
    "bounding_box_area_ratio",
    "edge_sharpness",
    "aspect_ratio",
    "otsu_threshold",
    "component_count",
    "touches_border",
    "cropped_alpha_ratio",
    "centering",
)


def test_10_quality_metrics(remove):
    """Every value of a mask made by hand; none when they are switched off."""
    # An L of alpha 1 (200 x 300 and 100 x 100), and far outside its crop a faint square of 102 / 255.
    solid, faint, level, count = 200 * 300 + 100 * 100, 60 * 60, 102 / 255, SIDE**2
    mask = canvas((1, 300, 300, 500, 600), (1, 500, 500, 600, 600), (level, 900, 60, 960, 120))
    metrics = remove(red_picture(mask)).metrics
    mean = (solid + level * faint) / count
    square_mean = (solid + level**2 * faint) / count
    # The object's box is a square of 300; soft and faint pixels are all above 0.1 and none above 0.9 or 0.5.
    expected = {
        "mask_confidence_mean": mean,
        "mask_confidence_std": np.sqrt((square_mean - mean**2) * count / (count - 1)),
        "alpha_coverage": solid / count,
        "soft_edge_ratio": faint / count,
        "object_coverage_ratio": solid / count,
        "bounding_box_area_ratio": solid / 300**2,
        "aspect_ratio": 1.0,
        "threshold": 0.8,
        "component_count": 1,
        "cropped_alpha_ratio": level * faint / (solid + level * faint),
    }
    assert {name: getattr(metrics, name) for name in expected} == pytest.approx(expected, rel=1e-4)
    gradient = np.hypot(*(ndimage.sobel(mask.astype(float), axis, mode="nearest") for axis in (0, 1)))
    assert metrics.edge_sharpness == pytest.approx(gradient.mean(), rel=1e-4)
    assert corners(metrics.foreground_box) == (300, 300, 300, 300)
    assert metrics.touches_border is False
    assert remove(red_picture(canvas((1, 0, 300, 300, 600)))).metrics.touches_border is True

    off = remove(red_picture(mask), enable_quality_metrics=False).metrics
    assert {name for name in MEASURED if getattr(off, name) is not None} == set()
    assert off.validation == "ok"
    assert off.durations.total_seconds > 0
