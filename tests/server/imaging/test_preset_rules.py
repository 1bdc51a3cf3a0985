"""The integer arithmetic of each project, in its own expressions, over every length that an image may have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.preset_rules import (
    Rect,
    crop_as_crm,
    crop_as_recentred,
    crop_as_spar3d,
    crop_as_trellis,
    crop_as_triposg,
    crop_as_triposr,
    largest_contour,
)
from cutstream_server.imaging.presets import PRESETS_BY_NAME

LENGTHS = range(3, 5000)
IMAGE = Size(6000, 5000)


def padding_of(name: str) -> float:
    return PRESETS_BY_NAME[name].options["padding_percentage"]


def sides(rule, name: str) -> list[float]:
    return [rule(Rect(7, 11, length, 2), padding_of(name), IMAGE).crop.width for length in LENGTHS]


def test_trellis_side_is_twice_the_half_of_1_2_times_the_index_range():
    assert sides(crop_as_trellis, "trellis") == [int((n - 1) * 1.2) // 2 * 2 for n in LENGTHS]


@pytest.mark.parametrize("name", ["triposr", "instantmesh", "sf3d"])
def test_triposr_side_is_the_slice_over_0_85_truncated(name):
    assert sides(crop_as_triposr, name) == [int((n - 1) / 0.85) for n in LENGTHS]


def test_spar3d_side_is_1_3_times_the_index_range_truncated():
    assert sides(crop_as_spar3d, "spar3d") == [max(2, int((n - 1) * 1.3)) for n in LENGTHS]


def test_triposg_side_is_the_length_and_a_truncated_tenth_twice():
    assert sides(crop_as_triposg, "triposg") == [n + 2 * int(n * 0.1) for n in LENGTHS]


def test_crm_side_is_the_length():
    assert sides(crop_as_crm, "crm") == list(LENGTHS)


@pytest.mark.parametrize(("name", "border"), [("hunyuan3d", 0.15), ("lgm", 0.2)])
def test_recentred_long_side_is_truncated_as_in_the_project(name, border):
    for canvas in (64, 333, 518, 1024, 4000):
        for length in range(2, canvas, 7):
            inner = length - 1
            expected = int(inner * (int(canvas * (1 - border)) / inner))
            crop = crop_as_recentred(Rect(0, 0, length, 2), padding_of(name), Size(canvas, 5)).crop

            assert inner * canvas / crop.width == pytest.approx(expected)


@pytest.mark.parametrize(("left", "width"), [(0, 101), (1, 101), (0, 102), (1, 102), (2, 103), (3, 104)])
def test_trellis_corner_is_rounded_half_to_even(left, width):
    half = int((width - 1) * 1.2) // 2
    crop = crop_as_trellis(Rect(left, 5, width, 30), 0.2, IMAGE).crop

    assert crop.left == np.rint(left + (width - 1) / 2 - half)
    assert crop.left + crop.width == np.rint(left + (width - 1) / 2 + half)


def test_slice_of_one_pixel_keeps_it():
    assert Rect(4, 5, 1, 9).sliced == Rect(4, 5, 1, 8)


def test_largest_contour_ignores_parts_under_200_pixels():
    # An arc that encloses much and has few pixels, beside a smaller block of 200.
    objects = np.zeros((120, 200), np.uint8)
    cv2.rectangle(objects, (5, 5), (50, 50), 1)
    objects[80:90, 100:120] = 1

    assert largest_contour(objects.astype(bool)) == Rect(100, 80, 20, 10)


def test_largest_contour_counts_what_it_encloses():
    objects = np.zeros((120, 200), np.uint8)
    cv2.rectangle(objects, (5, 5), (64, 64), 1)
    objects[80:100, 100:130] = 1

    assert largest_contour(objects.astype(bool)) == Rect(5, 5, 60, 60)
