from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.resample import (
    resample_alpha,
    resample_premultiplied,
    resize_map,
    sample_map,
    to_network_input,
)

ONE_OF_255 = 1 / 255
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def random_rgb(height: int, width: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (height, width, 3)).astype(dtype)


def soft_alpha(height: int, width: int) -> np.ndarray:
    """Draw a disc of noise with a wide soft edge: all alphas occur, low ones included, and the corners are empty."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5)
    noise = np.random.default_rng(4).uniform(0.8, 1.0, (height, width))
    return (np.clip(2.5 - 5 * distance, 0, 1) * noise).astype(np.float32)


def resample_with_pillow(rgb, alpha, crop: CropBox, width, height, resample) -> tuple[np.ndarray, np.ndarray]:
    """Cut the pixels that the crop touches with transparent fill, premultiply, resize each plane in mode F, divide."""
    left, top = math.floor(crop.left), math.floor(crop.top)
    right, bottom = math.ceil(crop.left + crop.width), math.ceil(crop.top + crop.height)
    straight = rgb / np.iinfo(rgb.dtype).max
    planes = np.dstack([straight * alpha[..., np.newaxis], alpha])
    box = (crop.left - left, crop.top - top, crop.left - left + crop.width, crop.top - top + crop.height)
    resized = []
    for plane in np.moveaxis(planes, 2, 0):
        cut = Image.fromarray(plane.astype(np.float32)).crop((left, top, right, bottom))
        resized.append(np.asarray(cut.resize((width, height), resample, box, reducing_gap=None)))
    out_alpha = np.clip(resized[3], 0, 1)
    colour = np.clip(np.stack(resized[:3], axis=-1), 0, out_alpha[..., np.newaxis])
    return np.where(
        out_alpha[..., np.newaxis] > 0, colour / np.maximum(out_alpha[..., np.newaxis], 1e-30), 0
    ), out_alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "crop",
    [
        CropBox(0, 0, 150, 120),
        CropBox(20, 10, 90, 90),
        CropBox(-30, -40, 200, 200),
        CropBox(12.3, 7.6, 101.7, 88.2),
        CropBox(-13.7, 40.2, 77.7, 130.1),
        CropBox(60.25, 50.5, 20.5, 16.75),
    ],
    ids=["whole", "inside", "around", "fractional", "over two edges", "enlarged"],
)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_antialiased_result_is_pillows_premultiplied_float_result(interpolation, crop, dtype):
    rgb, alpha = random_rgb(120, 150, dtype), soft_alpha(120, 150)
    colour, opacity = resample_premultiplied(rgb, alpha, crop, 52, 48, interpolation=interpolation)
    expected_colour, expected_opacity = resample_with_pillow(rgb, alpha, crop, 52, 48, FILTERS[interpolation])
    np.testing.assert_allclose(opacity, expected_opacity, atol=1e-5)
    # Straight colour is meaningless where alpha rounds to nothing even at 16 bits.
    seen = expected_opacity > 1 / 65535
    assert seen.any()
    np.testing.assert_allclose(colour[seen], expected_colour[seen], atol=ONE_OF_255)


@pytest.mark.parametrize("interpolation", FILTERS)
def test_colour_of_low_alpha_is_pillows(interpolation):
    rgb, alpha, crop = random_rgb(120, 150), soft_alpha(120, 150), CropBox(-30, -40, 200, 200)
    colour, _ = resample_premultiplied(rgb, alpha, crop, 77, 77, interpolation=interpolation)
    expected_colour, expected_opacity = resample_with_pillow(rgb, alpha, crop, 77, 77, FILTERS[interpolation])
    low = (expected_opacity > 1 / 65535) & (expected_opacity < 4 / 255)
    assert low.sum() > 10
    np.testing.assert_allclose(colour[low], expected_colour[low], atol=ONE_OF_255)


@pytest.mark.parametrize("crop", [CropBox(0, 0, 150, 120), CropBox(10, 20, 75, 60)])
def test_bilinear_without_antialias_is_opencvs_linear(crop):
    rgb, alpha = random_rgb(120, 150), np.ones((120, 150), np.float32)
    colour, opacity = resample_premultiplied(rgb, alpha, crop, 40, 32, antialias=False)
    cut = rgb[int(crop.top) :, int(crop.left) :][: int(crop.height), : int(crop.width)].astype(np.float32) / 255
    np.testing.assert_allclose(colour, cv2.resize(cut, (40, 32), interpolation=cv2.INTER_LINEAR), atol=1e-5)
    np.testing.assert_allclose(opacity, 1, atol=1e-6)


def keys_cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def lanczos3(x: float) -> float:
    if x == 0:
        return 1.0
    return math.sin(math.pi * x) * math.sin(math.pi * x / 3) * 3 / (math.pi * x) ** 2 if abs(x) < 3 else 0.0


@pytest.mark.parametrize(("interpolation", "kernel"), [("bicubic", keys_cubic), ("lanczos", lanczos3)])
def test_without_antialias_the_kernel_keeps_its_width(interpolation, kernel):
    row = np.random.default_rng(6).integers(0, 256, 40, dtype=np.uint8)
    rgb = np.broadcast_to(row[np.newaxis, :, np.newaxis], (40, 40, 3)).copy()
    colour, _ = resample_premultiplied(
        rgb, np.ones((40, 40), np.float32), CropBox(0, 0, 40, 40), 9, 9, interpolation=interpolation, antialias=False
    )
    for pixel in range(9):
        centre = (pixel + 0.5) * 40 / 9
        weights = np.array([kernel(i + 0.5 - centre) for i in range(40)])
        expected = np.clip(weights @ row / weights.sum() / 255, 0, 1)
        assert colour[4, pixel, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_nearest_takes_the_pixel_under_the_centre(antialias):
    rgb, alpha = random_rgb(30, 40), np.full((30, 40), 0.5, np.float32)
    crop = CropBox(-5.5, 3.25, 37.0, 22.5)
    colour, opacity = resample_premultiplied(rgb, alpha, crop, 11, 7, interpolation="nearest", antialias=antialias)
    for y in range(7):
        for x in range(11):
            column, row = math.floor(-5.5 + (x + 0.5) * 37 / 11), math.floor(3.25 + (y + 0.5) * 22.5 / 7)
            inside = 0 <= column < 40 and 0 <= row < 30
            assert opacity[y, x] == (0.5 if inside else 0)
            np.testing.assert_allclose(colour[y, x], rgb[row, column] / 255 if inside else 0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["nearest", *FILTERS])
def test_crop_at_the_sources_scale_returns_its_pixels(interpolation):
    rgb, alpha = random_rgb(20, 30), np.full((20, 30), 0.25, np.float32)
    colour, opacity = resample_premultiplied(rgb, alpha, CropBox(-3, 4, 30, 20), 30, 20, interpolation=interpolation)
    np.testing.assert_array_equal(np.rint(colour[:16, 3:] * 255), rgb[4:, :27])
    np.testing.assert_array_equal(opacity[:16, 3:], 0.25)
    assert not opacity[16:].any()
    assert not opacity[:, :3].any()


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
@pytest.mark.parametrize("antialias", [False, True])
def test_hard_edges_do_not_ring(interpolation, antialias):
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 32:] = 255
    alpha = np.zeros((64, 64), np.float32)
    alpha[16:48, 16:48] = 1
    for side in (23, 150):
        colour, opacity = resample_premultiplied(
            rgb, alpha, CropBox(0, 0, 64, 64), side, side, interpolation=interpolation, antialias=antialias
        )
        assert opacity.min() == 0
        assert opacity.max() == 1
        assert colour.min() >= 0
        assert colour.max() <= 1


def test_hidden_colour_does_not_bleed_into_the_edge():
    rgb = np.full((60, 60, 3), (0, 255, 0), np.uint8)
    rgb[20:40, 20:40] = (200, 90, 60)
    alpha = np.zeros((60, 60), np.float32)
    alpha[20:40, 20:40] = 1
    colour, opacity = resample_premultiplied(rgb, alpha, CropBox(3.3, 4.4, 50, 50), 17, 17)
    soft = (opacity > 0) & (opacity < 1)
    assert soft.any()
    np.testing.assert_allclose(colour[soft] * 255, np.broadcast_to((200, 90, 60), (soft.sum(), 3)), atol=0.1)


def test_colour_is_zero_where_alpha_is():
    colour, opacity = resample_premultiplied(
        random_rgb(50, 50), soft_alpha(50, 50), CropBox(-20, -20, 90, 90), 33, 33, interpolation="lanczos"
    )
    assert (opacity == 0).any()
    assert not colour[opacity == 0].any()


@pytest.mark.parametrize("crop", [CropBox(200, 0, 50, 50), CropBox(-60, -60, 50, 50)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_crop_beside_the_image_is_empty(crop, interpolation):
    alpha = np.ones((100, 100), np.float32)
    colour, opacity = resample_premultiplied(random_rgb(100, 100), alpha, crop, 10, 10, interpolation=interpolation)
    assert colour.shape == (10, 10, 3)
    assert not opacity.any()


def test_rounding_error_of_the_crop_lets_no_further_pixel_in():
    rgb, alpha = random_rgb(64, 64), np.ones((64, 64), np.float32)
    alpha[:, 48:] = 0
    exact = resample_premultiplied(rgb, alpha, CropBox(16, 16, 32, 32), 20, 20)
    nearly = resample_premultiplied(rgb, alpha, CropBox(16 - 1e-12, 16, 32 + 3e-12, 32), 20, 20)
    np.testing.assert_allclose(nearly[1], exact[1], atol=1e-5)
    np.testing.assert_allclose(exact[1], 1, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(0.5, 80), st.floats(0.5, 80)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["nearest", *FILTERS]),
    st.booleans(),
)
def test_any_crop_gives_values_in_range(source, crop, output, interpolation, antialias):
    rgb, alpha = random_rgb(*source), soft_alpha(*source)
    colour, opacity = resample_premultiplied(
        rgb, alpha, CropBox(*crop), *output, interpolation=interpolation, antialias=antialias
    )
    assert colour.shape == (output[1], output[0], 3)
    assert opacity.shape == (output[1], output[0])
    assert np.isfinite(colour).all()
    assert 0 <= colour.min() <= colour.max() <= 1
    assert 0 <= opacity.min() <= opacity.max() <= 1


@pytest.mark.parametrize(
    ("width", "height"), [(2048, 1536), (64, 64), (5000, 200), (1, 1), (3, 700), (512, 256)], ids=str
)
def test_network_input_is_pillows_antialiased_bilinear_of_a_photo(width, height):
    rgb = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((width, height), Image.Resampling.BICUBIC))
    expected = np.asarray(Image.fromarray(rgb).resize((512, 256), Image.Resampling.BILINEAR), np.int16)
    result = to_network_input(rgb, 512, 256)
    assert result.shape == (1, 3, 256, 512)
    assert result.dtype == np.uint8
    np.testing.assert_allclose(result[0].transpose(1, 2, 0), expected, atol=2)


def test_network_input_of_noise_errs_by_less_than_a_rounding_step():
    rgb = random_rgb(1536, 2048)
    expected = np.asarray(Image.fromarray(rgb).resize((512, 256), Image.Resampling.BILINEAR), np.int16)
    error = to_network_input(rgb, 512, 256)[0].transpose(1, 2, 0) - expected
    assert np.sqrt(np.mean(error**2)) < 0.7
    assert abs(error.mean()) < 0.02


def test_network_input_of_its_own_size_is_the_image():
    rgb = random_rgb(64, 96)
    np.testing.assert_array_equal(to_network_input(rgb, 96, 64)[0], rgb.transpose(2, 0, 1))


def test_network_input_of_16_bits_is_that_of_its_8_bits():
    rgb = random_rgb(100, 80)
    np.testing.assert_array_equal(to_network_input(rgb.astype(np.uint16) * 257, 64, 64), to_network_input(rgb, 64, 64))


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_network_input_of_a_flat_image_is_flat(value):
    assert (to_network_input(np.full((333, 777, 3), value, np.uint8), 256, 256) == value).all()


def mean_of_areas(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Repeat each value to a common multiple of both sizes and average whole blocks."""
    fine = np.kron(values.astype(np.float64), np.ones((height, width)))
    return fine.reshape(height, values.shape[0], width, values.shape[1]).mean(axis=(1, 3))


@pytest.mark.parametrize(("width", "height"), [(7, 5), (20, 16), (33, 40), (5, 40), (1, 1)])
def test_resized_map_holds_the_means_of_areas(width, height):
    values = np.random.default_rng(8).random((16, 20), dtype=np.float32)
    np.testing.assert_allclose(resize_map(values, width, height), mean_of_areas(values, width, height), atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_resized_map_keeps_the_mean(source_width, source_height, width, height):
    values = np.random.default_rng(9).random((source_height, source_width), dtype=np.float32)
    assert resize_map(values, width, height).mean() == pytest.approx(values.mean(), abs=1e-5)


def test_sampled_map_is_opencvs_linear_enlargement():
    values = np.random.default_rng(10).random((64, 64), dtype=np.float32)
    expected = cv2.resize(values, (300, 200), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(sample_map(values, Size(300, 200), 0, 0, 300, 200), expected, atol=1e-5)
    np.testing.assert_allclose(
        sample_map(values, Size(300, 200), 31, 17, 250, 199), expected[17:199, 31:250], atol=1e-5
    )


def test_map_finer_than_the_source_is_averaged():
    values = np.random.default_rng(11).random((64, 64), dtype=np.float32)
    expected = np.asarray(Image.fromarray(values).resize((20, 10), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(sample_map(values, Size(20, 10), 0, 0, 20, 10), expected, atol=1e-5)


def test_12_megapixel_frame_keeps_its_size_and_pixels():
    rgb = np.random.default_rng(12).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    colour, opacity = resample_premultiplied(
        rgb, np.ones((3000, 4000), np.float32), CropBox(0, 0, 4000, 3000), 4000, 3000, interpolation="lanczos"
    )
    np.testing.assert_array_equal(np.rint(colour[::97, ::101] * 255), rgb[::97, ::101])
    assert opacity.min() == 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("antialias", [True, False])
def test_alpha_alone_is_that_of_the_premultiplied_resampling_to_the_bit(interpolation, antialias):
    rng = np.random.default_rng(7)
    alpha = np.clip(rng.normal(0.5, 0.6, (90, 120)), 0, 1).astype(np.float32)
    rgb = rng.integers(0, 256, (90, 120, 3), np.uint8)
    arguments = (CropBox(-10.5, 3.25, 100.0, 100.0), 41, 41)
    alone = resample_alpha(alpha, *arguments, interpolation=interpolation, antialias=antialias)
    _, together = resample_premultiplied(rgb, alpha, *arguments, interpolation=interpolation, antialias=antialias)
    np.testing.assert_array_equal(alone, together)
