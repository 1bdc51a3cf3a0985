"""Edge refinement on hand-made scenes."""

import cv2
import numpy as np
import pytest

from cutstream_server.imaging.refinement import refine_edges

SIDE = 256


def scene(object_colour=(200, 60, 40), background=(30, 90, 160), noise=0):
    """A disc with an edge one pixel wide: its picture, the truth, and the mask of a network that blurs it."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    truth = np.clip(80 - np.hypot(x - SIDE / 2, y - SIDE / 2) + 0.5, 0, 1).astype(np.float32)
    rgb = truth[..., None] * np.array(object_colour) + (1 - truth[..., None]) * np.array(background)
    rgb = rgb + np.random.default_rng(3).normal(0, noise, rgb.shape)
    blurred = cv2.GaussianBlur(truth, (0, 0), 3)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), truth, blurred


def error(alpha, truth):
    return np.abs(alpha - truth).mean()


def refine(alpha, rgb, radius=40, eps=1e-3):
    # 40 pixels of a 1024 grid are 10 of this picture's 256.
    return refine_edges(alpha, rgb, radius=radius, eps=eps)


def test_a_blurred_edge_becomes_nearly_that_of_the_picture():
    rgb, truth, blurred = scene()
    assert error(refine(blurred, rgb), truth) < 0.5 * error(blurred, truth)


def test_an_unsure_pixel_gets_its_place_between_the_two_colours():
    rgb, truth, blurred = scene()
    refined = refine(blurred, rgb)
    unsure = (blurred > 0.2) & (blurred < 0.8)
    # Both colours are flat, so that the estimate is exact but for the colours' 8 bits and eps.
    np.testing.assert_allclose(refined[unsure], truth[unsure], atol=0.02)


def test_sure_pixels_stay_to_the_bit():
    rgb, _, blurred = scene(noise=10)
    sure = (blurred < 0.2) | (blurred > 0.8)
    np.testing.assert_array_equal(refine(blurred, rgb)[sure], blurred[sure])


def test_an_object_in_the_colour_of_its_background_keeps_its_mask():
    rgb, _, blurred = scene(object_colour=(90, 90, 90), background=(90, 90, 90), noise=8)
    assert np.abs(refine(blurred, rgb) - blurred).mean() < 0.002


def test_noise_is_trusted_less_than_flat_colour():
    clean, noisy = scene(), scene(noise=40)
    moved = [np.abs(refine(blurred, rgb) - blurred).mean() for rgb, _, blurred in (clean, noisy)]
    assert moved[1] < moved[0]


def test_a_mask_without_unsure_pixels_comes_back_as_it_is():
    rgb, truth, _ = scene()
    hard = (truth > 0.5).astype(np.float32)
    assert refine(hard, rgb) is hard


def test_sixteen_bits_give_the_same_as_eight():
    rgb, _, blurred = scene()
    np.testing.assert_allclose(refine(blurred, rgb.astype(np.uint16) * 257), refine(blurred, rgb), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_tiny_and_thin_masks_are_refined_within_range(shape):
    rng = np.random.default_rng(1)
    alpha = rng.random(shape, np.float32)
    rgb = rng.integers(0, 256, (17, 31, 3), np.uint8)
    refined = refine(alpha, rgb)
    assert refined.shape == shape
    assert refined.dtype == np.float32
    assert 0 <= refined.min() <= refined.max() <= 1
