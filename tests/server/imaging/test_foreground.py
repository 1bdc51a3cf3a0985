from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cutstream_server.imaging import foreground
from cutstream_server.imaging.foreground import compose_foreground, estimate_foreground
from cutstream_server.imaging.geometry import CropBox
from cutstream_server.imaging.resample import resample_premultiplied

OBJECT = np.float32([200, 90, 60]) / 255
BACKGROUND = np.float32([0, 220, 40]) / 255


def mix(alpha, colour=OBJECT, background=BACKGROUND):
    weight = alpha[..., np.newaxis]
    return (weight * colour + (1 - weight) * background).astype(np.float32)


def to_uint8(rgb):
    return np.rint(rgb * 255).astype(np.uint8)


def strands(size=900, blur=0.0):
    """A ball with 40 curved strands, 0.7 to 9 px wide, drawn at 4 times the size and averaged."""
    scale, rng = 4, np.random.default_rng(3)
    canvas = np.zeros((size * scale, size * scale), np.uint8)
    middle = np.array([size / 2, size / 2])
    cv2.circle(canvas, np.rint(middle * scale).astype(int).tolist(), round(size * scale * 0.2), 255, -1)
    for index in range(40):
        angle = 2 * np.pi * index / 40
        radii = np.linspace(size * 0.18, size * 0.45, 30)
        angles = angle + rng.normal(0, 0.3) * np.linspace(0, 1, 30) ** 2
        points = middle + radii[:, np.newaxis] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        width = max(3, round(scale * np.geomspace(0.7, 9, 8)[index % 8]))
        cv2.polylines(canvas, [np.rint(points * scale).astype(np.int32)], isClosed=False, color=255, thickness=width)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(alpha, (0, 0), blur) if blur else alpha


def colour_error(rgb, alpha, truth=OBJECT):
    """Mean error of 255 on the pixels that the bar is about."""
    return 255 * float(np.abs(rgb - truth)[(alpha >= 0.05) & (alpha <= 0.95)].mean())


@pytest.mark.parametrize("blur", [0.0, 1.5, 3.0])
@pytest.mark.parametrize(
    "crop", [CropBox(0, 0, 900, 900), CropBox(30.4, 20.7, 850, 850), CropBox(100, 60, 518, 518)], ids=str
)
def test_strands_keep_less_than_a_tenth_of_the_naive_error_and_less_than_10_of_255(blur, crop):
    alpha = strands(blur=blur)
    rgb = to_uint8(mix(alpha))
    naive, out_alpha = resample_premultiplied(rgb, alpha, crop, 518, 518)
    estimated, _ = compose_foreground(rgb, alpha, crop, 518, 518)
    error = colour_error(estimated, out_alpha)
    assert error < 10
    assert error < colour_error(naive, out_alpha) / 10


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_alpha_is_that_of_the_plain_cutout(interpolation):
    alpha = strands(size=300)
    rgb, crop = to_uint8(mix(alpha)), CropBox(-20.5, 10, 310, 310)
    _, plain = resample_premultiplied(rgb, alpha, crop, 200, 200, interpolation=interpolation)
    _, composed = compose_foreground(rgb, alpha, crop, 200, 200, interpolation=interpolation)
    np.testing.assert_array_equal(composed, plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_pixels_of_a_cutout_stay_within_2_of_255_of_the_plain_cutout(dtype):
    alpha, rng = strands(size=300), np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.random((300, 300, 3), dtype=np.float32), (0, 0), 2)
    rgb = np.rint(mix(alpha, texture) * np.iinfo(dtype).max).astype(dtype)
    plain, out_alpha = resample_premultiplied(rgb, alpha, CropBox(0, 0, 300, 300), 200, 200)
    composed, _ = compose_foreground(rgb, alpha, CropBox(0, 0, 300, 300), 200, 200)
    assert 255 * np.abs(composed - plain)[out_alpha > 0.999].max() < 2


def test_transparent_pixels_of_a_cutout_have_no_colour():
    alpha = strands(size=300)
    rgb, out_alpha = compose_foreground(to_uint8(mix(alpha)), alpha, CropBox(-50, -50, 400, 400), 200, 200)
    assert (out_alpha == 0).any()
    assert not rgb[out_alpha == 0].any()


def test_the_image_border_adds_no_black_to_the_object():
    # The strip of the image that the last column of output pixels straddles is half outside.
    alpha = np.full((200, 200), 0.5, np.float32)
    alpha[:, :180] = 0
    rgb = to_uint8(mix(alpha))
    composed, out_alpha = compose_foreground(rgb, alpha, CropBox(50.5, 0, 200, 200), 100, 100)
    assert 0 < out_alpha[50, 74] < 0.5
    np.testing.assert_allclose(composed[50, 74], OBJECT, atol=2 / 255)


@given(
    rgb=arrays(np.uint8, (21, 34, 3)),
    alpha=arrays(np.uint8, (21, 34), elements=st.sampled_from([0, 1, 100, 254, 255])),
)
def test_pixels_that_are_not_soft_are_untouched_and_the_rest_stays_in_range(rgb, alpha):
    observed, share = rgb.astype(np.float32) / 255, alpha.astype(np.float32) / 255
    estimated = estimate_foreground(observed, share)
    hard = (alpha == 0) | (alpha == 255)
    np.testing.assert_array_equal(estimated[hard], observed[hard])
    assert estimated.dtype == np.float32
    assert estimated.min() >= 0
    assert estimated.max() <= 1


def test_a_coloured_edge_gives_each_part_its_own_colour():
    rows, columns = np.mgrid[0:120, 0:120].astype(np.float32)
    alpha = np.clip((60 - columns) / 6 + 0.5, 0, 1)
    colour = np.where(rows[..., np.newaxis] < 60, np.float32([0.9, 0.1, 0.1]), np.float32([0.1, 0.1, 0.9]))
    estimated = estimate_foreground(mix(alpha, colour), alpha)
    away_from_the_seam = np.abs(rows - 60) > 10
    assert colour_error(estimated[away_from_the_seam], alpha[away_from_the_seam], colour[away_from_the_seam]) < 5


def test_a_uniform_glass_on_a_plain_background_gets_the_colour_behind_it_taken_out():
    alpha = np.zeros((160, 160), np.float32)
    cv2.circle(alpha, (80, 80), 30, 0.6, -1)
    estimated = estimate_foreground(mix(alpha), alpha)
    assert colour_error(estimated, alpha) < 10


def test_a_mask_that_explains_nothing_leaves_the_colours_nearly_alone():
    rng = np.random.default_rng(5)
    observed = np.full((96, 96, 3), 0.4, np.float32)
    alpha = cv2.GaussianBlur(rng.random((96, 96), dtype=np.float32), (0, 0), 3)
    assert np.abs(estimate_foreground(observed, alpha) - observed).max() < 1e-3


def test_tiles_leave_no_seam(monkeypatch):
    alpha = strands(size=420, blur=1.0)
    texture = np.random.default_rng(2).random((420, 420, 3), dtype=np.float32)
    observed = mix(alpha, cv2.GaussianBlur(texture, (0, 0), 3))
    whole = estimate_foreground(observed, alpha)
    monkeypatch.setattr(foreground, "TILE_PX", 96)
    np.testing.assert_allclose(estimate_foreground(observed, alpha), whole, atol=1e-5)


def test_arguments_are_not_changed():
    alpha = strands(size=100)
    observed = mix(alpha)
    before = observed.copy(), alpha.copy()
    estimate_foreground(observed, alpha)
    np.testing.assert_array_equal(observed, before[0])
    np.testing.assert_array_equal(alpha, before[1])
