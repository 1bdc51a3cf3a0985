"""Every format, channels, sample type and alpha mode, read by libraries that are not the service's encoder."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image
from scenes import Scene, ellipse, rgba_picture

BACKGROUND = (18, 171, 159)
LARGEST = {"uint8": 255, "uint16": 65535, "float32": 1}
SAMPLES_OF = {"png": ("uint8", "uint16"), "webp": ("uint8",), "raw": ("uint8", "uint16", "float32")}
KINDS = ("straight rgba", "premultiplied rgba", "rgb", "alpha")
COMBINATIONS = [
    (kind, form, sample)
    for kind, form in itertools.product(KINDS, SAMPLES_OF)
    for sample in SAMPLES_OF[form]
    if (kind, form) != ("alpha", "webp")
]


@pytest.fixture(scope="module")
def source():
    """Random 16-bit colour and opacity (24 x 30): a quarter each transparent, nearly so, opaque, anything."""
    random = np.random.default_rng(12)
    rgb = random.integers(0, 65536, (24, 30, 3)).astype(np.uint16)
    alpha = random.integers(0, 65536, (24, 30)).astype(np.uint16)
    alpha[::2, ::2], alpha[::2, 1::2], alpha[1::2, ::2] = 0, alpha[::2, 1::2] % 700, 65535
    return rgb, alpha


def expected_samples(rgb, alpha, kind, largest):
    """What the cutout holds by its definition, as floats in the range of the samples."""
    colour, opacity = rgb / 65535, alpha[..., np.newaxis] / 65535
    if kind == "alpha":
        return opacity[..., 0] * largest
    if kind == "rgb":
        return (colour * opacity + np.array(BACKGROUND) / 255 * (1 - opacity)) * largest
    if kind == "premultiplied rgba":
        colour = colour * opacity
    stored = opacity * largest if largest == 1 else np.rint(opacity * largest)
    return np.dstack([colour * largest * (stored > 0), stored])


def read(cutout, kind, form, sample):
    if form == "raw":
        dtype = {"uint8": np.uint8, "uint16": "<u2", "float32": "<f4"}[sample]
        shape = {"alpha": (24, 30), "rgb": (24, 30, 3)}.get(kind, (24, 30, 4))
        return np.frombuffer(cutout.data, dtype).reshape(shape)
    if sample == "uint8":
        image = Image.open(io.BytesIO(cutout.data))
        assert image.mode == {"alpha": "L", "rgb": "RGB"}.get(kind, "RGBA")
        return np.asarray(image)
    pixels = cv2.imdecode(np.frombuffer(cutout.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    order = {"alpha": ..., "rgb": [2, 1, 0]}.get(kind, [2, 1, 0, 3])
    return pixels[..., order] if kind != "alpha" else pixels


@pytest.mark.parametrize(("kind", "form", "sample"), COMBINATIONS)
def test_the_samples_are_those_of_the_source(client, source, kind, form, sample):
    """Within half a step, for rounding, and what float32 cannot hold."""
    options = {
        "straight rgba": {},
        "premultiplied rgba": {"alpha_mode": "premultiplied"},
        "rgb": {"channels": "rgb", "background_color": "#{:02x}{:02x}{:02x}".format(*BACKGROUND)},
        "alpha": {"channels": "alpha"},
    }[kind]
    cutout = client.remove(
        rgba_picture(*source), framing="full", alpha_floor=0.0, output_format=form, sample_type=sample, **options
    )
    assert (cutout.width_px, cutout.height_px) == (30, 24)
    assert cutout.media_type == {"png": "image/png", "webp": "image/webp", "raw": "application/octet-stream"}[form]
    step = 0 if sample == "float32" else 0.5
    difference = np.abs(read(cutout, kind, form, sample) - expected_samples(*source, kind, LARGEST[sample]))
    assert difference.max() <= step + LARGEST[sample] * 1e-6


@pytest.mark.parametrize(("width", "height"), [(300, 150), (150, 300), (333, 77)])
def test_a_crop_has_the_aspect_of_its_output_and_the_object_its_share(client, width, height):
    """The object's box takes 1 / 1.2 of one axis and at most that of the other: no longer than 1.5 times its width."""
    picture = Scene(400, 400, lambda x, y: ellipse(x, y, (180, 220), (100, 70))).picture()
    cutout = client.remove(picture, model="tiny", output_width_px=width, output_height_px=height)
    box, crop = cutout.metrics.foreground_box, cutout.crop
    assert Image.open(io.BytesIO(cutout.data)).size == (width, height)
    assert crop.width_px / crop.height_px == pytest.approx(width / height)
    shares = (box.width_px / crop.width_px, box.height_px / crop.height_px)
    assert max(shares) == pytest.approx(1 / 1.2)


def test_one_side_alone_means_a_square(client):
    picture = Scene(200, 100, lambda x, y: ellipse(x, y, (100, 50), (40, 40))).picture()
    for options in ({"output_width_px": 77}, {"output_height_px": 77}):
        cutout = client.remove(picture, model="tiny", **options)
        assert (cutout.width_px, cutout.height_px) == (77, 77)


def test_the_picture_compresses_more_at_a_higher_level_and_stays_the_same(client):
    picture = Scene(600, 600, lambda x, y: np.clip(1 - np.hypot(x - 300, y - 300) / 250, 0, 1)).picture()
    stored, smallest = (client.remove(picture, model="tiny", png_compression_level=level) for level in (0, 9))
    assert len(smallest.data) < len(stored.data) / 4
    assert (smallest.array == stored.array).all()
