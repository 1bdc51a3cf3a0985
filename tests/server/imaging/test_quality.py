"""Every metric by its formula on maps made by hand; scipy and numpy are the references for the dense ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cutstream_server.imaging.geometry import CropBox, Point, Size
from cutstream_server.imaging.quality import (
    Centering,
    MaskMetrics,
    ObjectValidation,
    cropped_alpha_ratio,
    measure_centering,
    measure_mask,
    validate_object,
)

# 20 pixels: one 1.0, three 0.9, two 0.6, one 0.5, one 0.2, one 0.1, eleven 0.
HAND_MADE = np.array(
    [
        [0.0, 0.1, 0.0, 0.0, 0.0],
        [0.0, 0.9, 1.0, 0.6, 0.0],
        [0.0, 0.9, 0.9, 0.6, 0.0],
        [0.0, 0.5, 0.2, 0.0, 0.0],
    ],
    np.float32,
)


def measure(alpha: np.ndarray, threshold: float = 0.8, crop: CropBox | None = None) -> MaskMetrics:
    return measure_mask(alpha, threshold, Size(alpha.shape[1], alpha.shape[0]), crop)


def square_object(size: int = 10, top: int = 2, left: int = 3, height: int = 4, width: int = 5) -> np.ndarray:
    alpha = np.zeros((size, size), np.float32)
    alpha[top : top + height, left : left + width] = 1
    return alpha


# Confidence and coverage


def test_confidence_mean_is_the_mean_alpha():
    # 1.0 + 3 * 0.9 + 2 * 0.6 + 0.5 + 0.2 + 0.1 = 5.7; / 20
    assert measure(HAND_MADE).mask_confidence_mean == pytest.approx(0.285)


def test_confidence_std_is_the_sample_standard_deviation():
    # Squares: 1 + 3 * 0.81 + 2 * 0.36 + 0.25 + 0.04 + 0.01 = 4.45; (4.45 - 5.7^2 / 20) / 19 = 0.148711
    assert measure(HAND_MADE).mask_confidence_std == pytest.approx(((4.45 - 5.7**2 / 20) / 19) ** 0.5)


def test_confidence_of_a_random_map_is_numpys():
    alpha = np.random.default_rng(5).random((48, 64)).astype(np.float32)
    metrics = measure(alpha)

    assert metrics.mask_confidence_mean == pytest.approx(alpha.mean(dtype=np.float64))
    assert metrics.mask_confidence_std == pytest.approx(alpha.std(ddof=1, dtype=np.float64))


def test_the_confidence_std_of_a_single_pixel_is_0():
    assert measure(np.full((1, 1), 0.7, np.float32)).mask_confidence_std == 0


def test_alpha_coverage_counts_pixels_above_one_half():
    # 1.0, 3 * 0.9 and 2 * 0.6 are above 0.5; 0.5 is not.
    assert measure(HAND_MADE).alpha_coverage == 6 / 20


def test_soft_edge_ratio_counts_pixels_from_above_one_tenth_to_nine_tenths():
    # Above 0.1: 8 (0.1 itself is not); above 0.9: the 1.0 only.
    assert measure(HAND_MADE).soft_edge_ratio == pytest.approx((8 - 1) / 20)


def test_the_soft_edge_begins_at_one_tenth_and_ends_at_nine_tenths():
    assert measure(np.array([[0.09, 0.11, 0.89, 0.91]], np.float32)).soft_edge_ratio == 2 / 4


def test_object_coverage_counts_pixels_above_the_threshold():
    assert measure(HAND_MADE, threshold=0.8).object_coverage_ratio == 4 / 20
    assert measure(HAND_MADE, threshold=0.55).object_coverage_ratio == 6 / 20


# Box


def test_bounding_box_area_ratio_is_the_filled_part_of_the_box():
    # Above 0.4: seven pixels in a box of 3 x 3.
    assert measure(HAND_MADE, threshold=0.4).bounding_box_area_ratio == pytest.approx(7 / 9)


def test_aspect_ratio_is_width_over_height_of_the_box():
    assert measure(square_object(height=4, width=5)).aspect_ratio == 5 / 4


def test_aspect_ratio_is_that_of_source_pixels():
    # The map's pixels are 3 x 1 source pixels each.
    metrics = measure_mask(square_object(height=4, width=5), 0.8, Size(30, 10), None)

    assert metrics.aspect_ratio == pytest.approx(15 / 4)


# Edges


def test_a_straight_step_has_a_gradient_of_four_on_either_side():
    # Sobel across a step of 1: (1 + 2 + 1) * 1 in the two columns beside it, 0 in the other four: 8 / 6.
    alpha = np.zeros((5, 6), np.float32)
    alpha[:, 3:] = 1

    assert measure(alpha).edge_sharpness == pytest.approx(8 / 6)


def test_a_ramp_has_half_its_gradient_at_the_replicated_border():
    # Inside 4 * (2 * 0.1) = 0.8 in 9 of 11 columns, at either border 4 * 0.1: (9 * 0.8 + 2 * 0.4) / 11.
    alpha = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (7, 1))

    assert measure(alpha).edge_sharpness == pytest.approx(8 / 11)


def test_edge_sharpness_of_a_random_map_is_scipys_sobel_magnitude():
    alpha = np.random.default_rng(6).random((30, 40)).astype(np.float32)
    gradients = [ndimage.sobel(alpha.astype(np.float64), axis, mode="nearest") for axis in (0, 1)]

    assert measure(alpha).edge_sharpness == pytest.approx(np.hypot(*gradients).mean())


# Components and border


def test_every_component_counts_down_to_one_pixel():
    alpha = square_object()
    alpha[9, 0] = alpha[0, 9] = 1

    assert measure(alpha).component_count == 3


@pytest.mark.parametrize(("row", "column"), [(0, 4), (9, 4), (4, 0), (4, 9)])
def test_an_object_pixel_on_any_side_touches_the_border(row, column):
    alpha = square_object()
    alpha[row, column] = 0.81

    assert measure(alpha).touches_border


def test_soft_alpha_on_the_border_does_not_touch_it():
    alpha = square_object()
    alpha[0, :] = alpha[:, 9] = 0.8

    assert not measure(alpha).touches_border


def test_an_object_one_pixel_inside_does_not_touch_the_border():
    assert not measure(square_object(top=1, left=1, height=8, width=8)).touches_border


# Alpha outside the crop


def test_a_crop_around_the_image_loses_no_alpha():
    alpha = np.random.default_rng(7).random((30, 40)).astype(np.float32)

    assert cropped_alpha_ratio(alpha, Size(40, 30), CropBox(-5, -15, 50, 60)) == 0


def test_a_crop_elsewhere_loses_all_alpha():
    assert cropped_alpha_ratio(square_object(), Size(10, 10), CropBox(20, 20, 5, 5)) == 1


def test_a_crop_loses_the_alpha_outside_it_weighted():
    # Inside columns 1 and 2 of rows 1 and 2: 0.9 + 1.0 + 0.9 + 0.9 = 3.7 of 5.7.
    lost = cropped_alpha_ratio(HAND_MADE, Size(5, 4), CropBox(1, 1, 2, 2))

    assert lost == pytest.approx(1 - 3.7 / 5.7)


def test_a_pixel_cut_by_the_crop_is_lost_in_part():
    # Of 4 x 4 pixels of 1, the crop holds 3.25 x 3.5.
    lost = cropped_alpha_ratio(np.ones((4, 4), np.float32), Size(4, 4), CropBox(0.75, 0, 10, 3.5))

    assert lost == pytest.approx(1 - 3.25 * 3.5 / 16)


def test_the_crop_is_in_source_pixels():
    lost = cropped_alpha_ratio(np.ones((4, 4), np.float32), Size(400, 40), CropBox(75, 0, 1000, 35))

    assert lost == pytest.approx(1 - 3.25 * 3.5 / 16)


def test_an_empty_map_has_no_alpha_to_lose():
    assert cropped_alpha_ratio(np.zeros((4, 4), np.float32), Size(4, 4), CropBox(0, 0, 1, 1)) == 0


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-20, 20),
    st.floats(-20, 20),
    st.floats(0.5, 40),
    st.floats(0.5, 40),
)
def test_alpha_inside_and_outside_add_up(seed, left, top, width, height):
    alpha = np.random.default_rng(seed).random((9, 12)).astype(np.float32)
    inside = 0.0
    for (row, column), value in np.ndenumerate(alpha):
        shown_x = max(0.0, min(column + 1, left + width) - max(column, left))
        shown_y = max(0.0, min(row + 1, top + height) - max(row, top))
        inside += float(value) * shown_x * shown_y
    lost = cropped_alpha_ratio(alpha, Size(12, 9), CropBox(left, top, width, height))

    assert lost == pytest.approx(1 - inside / alpha.sum(dtype=np.float64), abs=1e-5)


def test_metrics_measure_the_alpha_outside_the_crop():
    assert measure(HAND_MADE, crop=CropBox(1, 1, 2, 2)).cropped_alpha_ratio == pytest.approx(1 - 3.7 / 5.7)


# Centering


def test_a_centre_of_mass_in_the_middle_scores_one():
    assert measure_centering(Point(60, 35), CropBox(10, 10, 100, 50)) == Centering(0, 0, 0, 0, True, 1)


def test_centering_is_signed_and_relative_to_each_side_of_the_crop():
    # Crop centre (60, 35); limit 0.1 * 50 = 5; the larger offset is 4: 1 - 4 / 5.
    centering = measure_centering(Point(62, 31), CropBox(10, 10, 100, 50))

    assert dataclasses.astuple(centering) == pytest.approx((2, -4, 0.02, -0.08, True, 0.2))


@pytest.mark.parametrize("centre", [Point(65.5, 35), Point(60, 29.5), Point(0, 0)])
def test_an_offset_beyond_the_limit_on_either_axis_is_not_well_centered_and_scores_zero(centre):
    centering = measure_centering(centre, CropBox(10, 10, 100, 50))

    assert (centering.well_centered, centering.score) == (False, 0)


def test_an_offset_at_the_limit_is_still_well_centered():
    assert measure_centering(Point(65, 40), CropBox(10, 10, 100, 50)).well_centered


def test_metrics_center_the_object_pixels_weighted_with_alpha():
    # Above 0.8: x = (1.5 * 0.9 + 2.5 * 1.0 + 1.5 * 0.9 + 2.5 * 0.9) / 3.7, y = (1.5 * 1.9 + 2.5 * 1.8) / 3.7.
    centering = measure(HAND_MADE, crop=CropBox(0, 0, 4, 4)).centering

    assert centering is not None
    assert centering.offset_x_px == pytest.approx(7.45 / 3.7 - 2)
    assert centering.offset_y_px == pytest.approx(7.35 / 3.7 - 2)


# Nothing there


def test_an_empty_map_measures_as_nothing():
    metrics = measure(np.zeros((6, 8), np.float32), crop=None)

    assert metrics == MaskMetrics(
        mask_confidence_mean=0,
        mask_confidence_std=0,
        alpha_coverage=0,
        soft_edge_ratio=0,
        object_coverage_ratio=0,
        bounding_box_area_ratio=0,
        edge_sharpness=0,
        aspect_ratio=None,
        component_count=0,
        touches_border=False,
        cropped_alpha_ratio=None,
        centering=None,
    )


def test_a_crop_without_object_pixels_has_no_centering():
    assert measure(np.full((6, 8), 0.3, np.float32), crop=CropBox(0, 0, 8, 6)).centering is None


# Object size


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        (0.0, ObjectValidation.TOO_SMALL),
        (0.049, ObjectValidation.TOO_SMALL),
        (0.05, ObjectValidation.OK),
        (0.5, ObjectValidation.OK),
        (0.95, ObjectValidation.OK),
        (0.951, ObjectValidation.TOO_LARGE),
    ],
)
def test_object_size_is_judged_by_its_coverage(coverage, expected):
    assert validate_object(coverage, has_object=True, minimum=0.05, maximum=0.95) is expected


def test_an_image_without_a_box_has_no_object():
    assert validate_object(0.0, has_object=False, minimum=0.0, maximum=1.0) is ObjectValidation.NO_OBJECT
