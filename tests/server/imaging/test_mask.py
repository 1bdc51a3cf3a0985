"""Threshold, floor, quantisation, components and region, against scikit-image, OpenCV and maps made by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.measure import label

from cutstream_server.imaging.geometry import Box, Size
from cutstream_server.imaging.mask import (
    apply_alpha_floor,
    choose_threshold,
    count_components,
    keep_largest_component,
    limit_to_region,
    object_pixels,
    otsu_threshold,
    quantize,
)

ONE_LEVEL = 1 / 255


def two_classes(low: float, high: float, low_share: float, seed: int = 1) -> np.ndarray:
    """A map whose values scatter about two levels, with a 0 and a 1 so that scikit-image's bins span 0..1.

    The classes overlap: over an empty gap every split is as good, and references differ in which one they take.
    """
    random = np.random.default_rng(seed)
    low_count = int(10_000 * low_share)
    values = np.concatenate([random.normal(low, 0.09, low_count), random.normal(high, 0.06, 10_000 - low_count)])
    values = np.clip(values, 0, 1)
    values[:2] = 0, 1
    return values.reshape(100, 100).astype(np.float32)


HIGH_OTSU_MAPS = [(0.45, 0.75, 0.5), (0.5, 0.95, 0.7), (0.6, 0.9, 0.3), (0.8, 0.97, 0.5), (0.85, 0.99, 0.6)]


def choose(alpha: np.ndarray, **changes: object):
    options = {"fixed": 0.8, "adaptive": False, "minimum": 0.5, "maximum": 0.95} | changes
    return choose_threshold(alpha, **options)


def uniform(value: float) -> np.ndarray:
    return np.full((6, 8), value, np.float32)


# Otsu


@pytest.mark.parametrize(("low", "high", "low_share"), HIGH_OTSU_MAPS)
def test_otsu_equals_scikit_image_within_a_level(low, high, low_share):
    alpha = two_classes(low, high, low_share)
    expected = threshold_otsu(alpha, nbins=256)

    assert 0.5 < expected < 0.95
    assert otsu_threshold(alpha) == pytest.approx(expected, abs=ONE_LEVEL)


@pytest.mark.parametrize(("low", "high", "low_share"), HIGH_OTSU_MAPS)
def test_otsu_lies_half_a_level_above_opencvs_on_an_8_bit_mask(low, high, low_share):
    levels = np.rint(two_classes(low, high, low_share) * 255).astype(np.uint8)
    expected, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)

    assert 0.5 * 255 < expected < 0.95 * 255
    assert otsu_threshold(levels / np.float32(255)) == pytest.approx((expected + 0.5) / 255, abs=1e-9)


def test_otsu_maximises_the_variance_between_the_classes():
    levels = np.rint(two_classes(0.55, 0.9, 0.8) * 255)

    def between(level: int) -> float:
        lower, upper = levels[levels <= level], levels[levels > level]
        return lower.size * upper.size * (upper.mean() - lower.mean()) ** 2

    best = max(range(255), key=between)

    assert otsu_threshold((levels / 255).astype(np.float32)) == pytest.approx((best + 0.5) / 255, abs=1e-9)


def test_otsu_of_two_levels_puts_only_the_upper_one_above_it():
    alpha = uniform(0.6)
    alpha[2:4, 3:5] = 1.0

    assert np.array_equal(object_pixels(alpha, otsu_threshold(alpha)), alpha == 1.0)


def test_of_equal_splits_in_a_gap_otsu_takes_the_lowest():
    alpha = uniform(0.0)
    alpha[:, :4] = 1.0

    assert otsu_threshold(alpha) == 0.5 / 255


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_otsu_of_a_constant_mask_is_its_value(value):
    assert otsu_threshold(uniform(value)) == np.float32(value)


# The threshold used


def test_a_fixed_threshold_within_the_limits_is_used_as_it_is():
    threshold = choose(two_classes(0.1, 0.95, 0.5), fixed=0.7)

    assert (threshold.used, threshold.clamped, threshold.lowered) == (0.7, False, False)


@pytest.mark.parametrize(("asked", "used"), [(0.0, 0.5), (0.49, 0.5), (0.96, 0.95), (1.0, 0.95)])
def test_a_fixed_threshold_outside_the_limits_is_clamped_and_says_so(asked, used):
    threshold = choose(uniform(1.0), fixed=asked)

    assert (threshold.used, threshold.clamped) == (used, True)


def test_a_presets_own_number_is_not_clamped():
    threshold = choose(uniform(1.0), fixed=0.0, clamp=False)

    assert (threshold.used, threshold.clamped) == (0.0, False)


def test_the_adaptive_threshold_is_otsus_within_the_limits():
    alpha = two_classes(0.6, 0.9, 0.3)
    threshold = choose(alpha, adaptive=True)

    assert threshold.used == pytest.approx(threshold_otsu(alpha, nbins=256), abs=ONE_LEVEL)
    assert not threshold.clamped


def test_the_adaptive_threshold_is_clamped_and_otsus_own_value_reported():
    alpha = two_classes(0.05, 0.6, 0.5)
    threshold = choose(alpha, adaptive=True)

    assert (threshold.used, threshold.clamped) == (0.5, True)
    assert threshold.otsu == pytest.approx(threshold_otsu(alpha, nbins=256), abs=ONE_LEVEL)
    assert threshold.otsu < 0.45


def test_otsu_is_reported_for_a_fixed_threshold_too():
    alpha = two_classes(0.6, 0.9, 0.3)

    assert choose(alpha).otsu == pytest.approx(threshold_otsu(alpha, nbins=256), abs=ONE_LEVEL)


def test_a_full_mask_is_all_object_under_the_adaptive_threshold():
    alpha = uniform(1.0)

    assert object_pixels(alpha, choose(alpha, adaptive=True).used).all()


def test_glass_below_the_threshold_is_boxed_at_the_minimum():
    alpha = uniform(0.0)
    alpha[1:4, 2:6] = 0.7
    threshold = choose(alpha)

    assert (threshold.used, threshold.lowered) == (0.5, True)


def test_a_mask_just_at_the_threshold_is_boxed_at_the_minimum():
    assert choose(uniform(0.8), fixed=0.8).used == 0.5


def test_glass_in_input_alpha_is_boxed_at_half_its_maximum():
    alpha = uniform(0.0)
    alpha[1:4, 2:6] = 0.25
    threshold = choose(alpha, input_alpha=True)

    assert (threshold.used, threshold.lowered) == (0.125, True)


def test_input_alpha_above_the_threshold_is_not_lowered():
    alpha = uniform(0.3)
    alpha[2, 2] = 0.81

    assert choose(alpha, input_alpha=True).used == 0.8


def test_a_prediction_with_nothing_above_the_minimum_has_no_object():
    alpha = uniform(0.5)
    threshold = choose(alpha)

    assert (threshold.used, threshold.lowered) == (0.8, False)
    assert not object_pixels(alpha, threshold.used).any()


def test_empty_input_alpha_has_no_object():
    threshold = choose(uniform(0.0), input_alpha=True)

    assert (threshold.used, threshold.lowered) == (0.8, False)


def test_the_minimum_never_raises_a_presets_lower_threshold():
    threshold = choose(uniform(0.0), fixed=0.0, clamp=False)

    assert (threshold.used, threshold.lowered) == (0.0, False)


def test_204_of_255_is_not_above_a_threshold_of_0_8():
    levels = np.array([[203, 204, 205]], np.uint8)

    assert object_pixels(levels / np.float32(255), 0.8).tolist() == [[False, False, True]]


# Floor


def test_alpha_below_the_floor_becomes_0():
    alpha = np.array([[0.0, 2 / 255, 3 / 255, 0.5]], np.float32)

    assert np.array_equal(apply_alpha_floor(alpha, 0.01), np.array([[0.0, 0.0, 3 / 255, 0.5]], np.float32))


def test_alpha_above_one_minus_the_floor_becomes_1():
    alpha = np.array([[0.5, 252 / 255, 253 / 255, 1.0]], np.float32)

    assert np.array_equal(apply_alpha_floor(alpha, 0.01), np.array([[0.5, 252 / 255, 1.0, 1.0]], np.float32))


def test_a_floor_of_0_keeps_every_value():
    alpha = np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 143)

    assert np.array_equal(apply_alpha_floor(alpha, 0.0), alpha)


def test_the_floor_leaves_its_argument_alone():
    alpha = uniform(0.995)
    apply_alpha_floor(alpha, 0.01)

    assert np.array_equal(alpha, uniform(0.995))


# Quantisation


@pytest.mark.parametrize(("bits", "levels"), [(8, 255), (16, 65535)])
def test_quantised_alpha_lies_on_the_levels_of_its_bits(bits, levels):
    alpha = np.random.default_rng(2).random((40, 50)).astype(np.float32)
    quantised = quantize(alpha, bits).astype(np.float64) * levels

    assert np.abs(quantised - np.rint(quantised)).max() < 0.01
    assert np.abs(quantised - alpha.astype(np.float64) * levels).max() < 0.51


def test_no_bits_leave_alpha_as_it_is():
    alpha = np.random.default_rng(3).random((4, 5)).astype(np.float32)

    assert np.array_equal(quantize(alpha, 0), alpha)


# Components


def test_pixels_that_touch_at_a_corner_are_one_component():
    assert count_components(np.eye(5, dtype=np.float32), 0.8) == 1


def test_components_are_counted_as_scikit_image_labels_them():
    alpha = np.random.default_rng(4).random((60, 80)).astype(np.float32)
    expected = label(alpha > 0.8, connectivity=2).max()

    assert expected > 100
    assert count_components(alpha, 0.8) == expected


def test_a_mask_without_object_pixels_has_no_component():
    assert count_components(uniform(0.8), 0.8) == 0


def test_the_smaller_component_goes_with_its_soft_edge():
    alpha = np.array([[0.2, 1, 1, 0.3, 0, 0.4, 1, 0.1]], np.float32)

    assert keep_largest_component(alpha, 0.8).tolist() == np.float32([[0.2, 1, 1, 0.3, 0, 0, 0, 0]]).tolist()


def test_a_faint_blob_apart_from_the_largest_component_goes():
    alpha = np.array([[1, 1, 0.5, 0, 0.7, 0.7, 0.7]], np.float32)

    assert keep_largest_component(alpha, 0.8).tolist() == [[1, 1, 0.5, 0, 0, 0, 0]]


def test_a_soft_bridge_to_another_component_is_shared_by_nearness():
    alpha = np.array([[1, 1, 1, 0.3, 0.4, 0.5, 0.6, 1, 1, 0.2]], np.float32)

    kept = keep_largest_component(alpha, 0.8)

    assert kept.tolist() == np.float32([[1, 1, 1, 0.3, 0.4, 0, 0, 0, 0, 0]]).tolist()


def test_a_soft_end_behind_another_component_goes_with_it():
    # The tail in the last row is nearer to the larger object and connected to it only by way of the smaller one.
    alpha = np.array(
        [
            [1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 0.3, 1.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4],
            [0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
        ],
        np.float32,
    )
    expected = np.zeros_like(alpha)
    expected[0, :7] = alpha[0, :7]

    assert np.array_equal(keep_largest_component(alpha, 0.8), expected)


def test_a_wisp_of_the_largest_component_stays_though_an_unconnected_one_is_nearer():
    alpha = np.array(
        [
            [1.0, 1.0, 0.4, 0.4, 0.4, 0.4, 0.4],
            [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
        ],
        np.float32,
    )

    assert np.array_equal(keep_largest_component(alpha, 0.8)[0], alpha[0])


def test_largest_means_most_pixels_above_the_threshold():
    alpha = np.array([[0.7, 0.7, 0.7, 0.7, 0.9, 0, 1, 1]], np.float32)

    assert keep_largest_component(alpha, 0.8).tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]


def test_a_mask_without_a_component_comes_back_as_it_is():
    assert np.array_equal(keep_largest_component(uniform(0.4), 0.8), uniform(0.4))


# Region


def test_alpha_outside_the_region_becomes_0():
    alpha = np.ones((4, 5), np.float32)
    expected = np.zeros((4, 5), np.float32)
    expected[1:3, 2:4] = 1

    assert np.array_equal(limit_to_region(alpha, Box(2.0, 1.0, 4.0, 3.0), Size(5, 4)), expected)


def test_the_region_is_given_in_source_pixels_whatever_the_maps_resolution():
    alpha = np.ones((4, 5), np.float32)
    expected = np.zeros((4, 5), np.float32)
    expected[1:3, 2:4] = 1

    assert np.array_equal(limit_to_region(alpha, Box(200.0, 10.0, 400.0, 30.0), Size(500, 40)), expected)


def test_a_pixel_belongs_to_the_region_when_its_centre_does():
    alpha = np.ones((1, 4), np.float32)

    assert limit_to_region(alpha, Box(0.4, 0.0, 2.4, 1.0), Size(4, 1)).tolist() == [[1, 1, 0, 0]]
