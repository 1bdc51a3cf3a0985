from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cutstream_server.errors import OutputTooLargeError
from cutstream_server.imaging.encode import encode, media_type

RNG = np.random.default_rng(1)
COLOUR = RNG.random((9, 13, 3), dtype=np.float32)
ALPHA = RNG.random((9, 13), dtype=np.float32)
ALPHA[:3] = 0
ALPHA[6:] = 1


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def shown(colour: np.ndarray, maximum: int) -> np.ndarray:
    """Return what colour should be stored as where alpha hides nothing."""
    return np.where(ALPHA[..., np.newaxis] > 0, np.rint(colour.astype(np.float64) * maximum), 0)


@pytest.mark.parametrize("level", [0, 1, 2, 6, 9])
def test_png_of_8_bits_reads_back_at_every_level(level):
    image = pillow(encode(COLOUR, ALPHA, png_compression_level=level))
    np.testing.assert_array_equal(image[..., :3], shown(COLOUR, 255))
    np.testing.assert_array_equal(image[..., 3], np.rint(ALPHA * 255))


def test_png_of_16_bits_reads_back_in_the_order_red_green_blue():
    data = encode(COLOUR, ALPHA, sample_type="uint16")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 2::-1], shown(COLOUR, 65535))
    np.testing.assert_array_equal(image[..., 3], np.rint(ALPHA.astype(np.float64) * 65535))
    np.testing.assert_allclose(pillow(data)[..., :3], shown(COLOUR, 255), atol=1)


def test_webp_is_lossless():
    image = pillow(encode(COLOUR, ALPHA, output_format="webp"))
    np.testing.assert_array_equal(image[..., :3], shown(COLOUR, 255))
    np.testing.assert_array_equal(image[..., 3], np.rint(ALPHA * 255))


@pytest.mark.parametrize(("sample_type", "stored"), [("uint8", "u1"), ("uint16", "<u2"), ("float32", "<f4")])
def test_raw_is_rows_of_little_endian_samples(sample_type, stored):
    data = encode(COLOUR, ALPHA, output_format="raw", sample_type=sample_type)
    image = np.frombuffer(data, stored).reshape(9, 13, 4)
    maximum = {"uint8": 255, "uint16": 65535, "float32": None}[sample_type]
    if maximum is None:
        np.testing.assert_array_equal(image[3:, :, :3], COLOUR[3:])
        np.testing.assert_array_equal(image[..., 3], ALPHA)
    else:
        np.testing.assert_array_equal(image[..., :3], shown(COLOUR, maximum))
        np.testing.assert_array_equal(image[..., 3], np.rint(ALPHA.astype(np.float64) * maximum))


@pytest.mark.parametrize(
    ("output_format", "sample_type"), [("png", "uint8"), ("png", "uint16"), ("webp", "uint8"), ("raw", "float32")]
)
def test_colour_under_zero_alpha_is_cleared(output_format, sample_type):
    colour, alpha = np.full((8, 8, 3), 0.7, np.float32), np.zeros((8, 8), np.float32)
    alpha[0, 0] = 1
    data = encode(colour, alpha, output_format=output_format, sample_type=sample_type)
    if output_format == "raw":
        image = np.frombuffer(data, "<f4").reshape(8, 8, 4)
    elif output_format == "webp":
        image = pillow(data)
    else:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), -1)
    assert image[0, 0].all()
    assert not image[1:].any()
    assert not image[0, 1:].any()


def test_alpha_that_is_stored_as_zero_clears_colour():
    image = pillow(encode(np.ones((1, 2, 3), np.float32), np.array([[0.0019, 0.0021]], np.float32)))
    np.testing.assert_array_equal(image, [[(0, 0, 0, 0), (255, 255, 255, 1)]])


def test_premultiplied_colour_is_multiplied_before_it_is_rounded():
    colour, alpha = np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1), 0.25, np.float32)
    data = encode(colour, alpha, output_format="raw", sample_type="uint16", alpha_mode="premultiplied")
    np.testing.assert_array_equal(np.frombuffer(data, "<u2"), [8192, 8192, 8192, 16384])


def test_rgb_is_colour_over_the_background():
    colour = np.full((2, 2, 3), (1.0, 0.5, 0.0), np.float32)
    alpha = np.array([[0, 1], [0.5, 0.25]], np.float32)
    image = pillow(encode(colour, alpha, channels="rgb", background_color=(10, 20, 200)))
    expected = alpha[..., np.newaxis] * colour * 255 + (1 - alpha[..., np.newaxis]) * np.array([10, 20, 200])
    np.testing.assert_allclose(image, expected, atol=0.501)
    assert image.shape == (2, 2, 3)


def test_rgb_without_a_background_is_over_black():
    image = pillow(encode(COLOUR, ALPHA, channels="rgb"))
    np.testing.assert_allclose(image, COLOUR * ALPHA[..., np.newaxis] * 255, atol=0.501)


def test_alpha_alone_is_a_grey_png():
    image = Image.open(io.BytesIO(encode(COLOUR, ALPHA, channels="alpha")))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), np.rint(ALPHA * 255))


def test_alpha_alone_keeps_16_bits_in_png():
    image = Image.open(io.BytesIO(encode(COLOUR, ALPHA, channels="alpha", sample_type="uint16")))
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), np.rint(ALPHA.astype(np.float64) * 65535))


def test_alpha_alone_keeps_its_floats_in_raw():
    data = encode(COLOUR, ALPHA, channels="alpha", output_format="raw", sample_type="float32")
    np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(9, 13), ALPHA)


def test_alpha_alone_in_webp_is_grey():
    image = pillow(encode(COLOUR, ALPHA, channels="alpha", output_format="webp"))
    np.testing.assert_array_equal(image[..., :3], np.repeat(np.rint(ALPHA * 255)[..., np.newaxis], 3, axis=2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 1), (1, 4), (65, 2), (200, 3)])
def test_any_shape_reads_back(height, width):
    rng = np.random.default_rng(2)
    colour = rng.random((height, width, 3), dtype=np.float32)
    alpha = rng.uniform(0.5, 1, (height, width)).astype(np.float32)
    image = pillow(encode(colour, alpha))
    np.testing.assert_array_equal(image[..., :3], np.rint(colour * 255))
    np.testing.assert_array_equal(image[..., 3], np.rint(alpha * 255))
    grey = pillow(encode(colour, alpha, channels="alpha"))
    np.testing.assert_array_equal(grey, np.rint(alpha * 255))


@pytest.mark.parametrize(
    ("output_format", "sample_type"), [("webp", "uint16"), ("webp", "float32"), ("png", "float32")]
)
def test_samples_that_a_format_cannot_hold_are_refused(output_format, sample_type):
    with pytest.raises(ValueError, match=sample_type):
        encode(COLOUR, ALPHA, output_format=output_format, sample_type=sample_type)


def test_webp_beyond_its_longest_side_is_refused_with_the_limit():
    colour, alpha = np.zeros((1, 16384, 3), np.float32), np.ones((1, 16384), np.float32)
    with pytest.raises(OutputTooLargeError) as caught:
        encode(colour, alpha, output_format="webp")
    assert caught.value.metadata == {"limit": "16383", "measured": "16384", "unit": "pixels"}


@pytest.mark.parametrize(
    ("output_format", "expected"), [("png", "image/png"), ("webp", "image/webp"), ("raw", "application/octet-stream")]
)
def test_media_type_names_the_format(output_format, expected):
    assert media_type(output_format) == expected
