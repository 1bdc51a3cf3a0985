import numpy as np
import pytest
from benchmarks.reconstruction.solids import (
    around,
    blend,
    box,
    difference,
    lathe,
    mirrored,
    moved,
    ring,
    rod,
    sphere,
    union,
)


def at(solid, *point):
    return float(solid(np.array([point], np.float32))[0])


def test_a_sphere_is_as_far_as_its_centre_less_its_radius():
    assert at(sphere((1, 0, 0), 0.5), 1, 3, 4) == pytest.approx(4.5)


def test_a_box_is_measured_to_its_nearest_corner():
    assert at(box((0, 0, 0), (1, 1, 1)), 2, 3, 3) == pytest.approx(3)


def test_a_boxs_middle_is_as_deep_as_its_nearest_face():
    assert at(box((0, 0, 0), (3, 1, 2)), 0, 0, 0) == pytest.approx(-1)


def test_rounding_takes_off_the_corner_of_a_box_but_not_its_face():
    rounded = box((0, 0, 0), (1, 1, 1), 0.2)
    assert at(rounded, 2, 0, 0) == pytest.approx(1)
    # The corner of the rounded box is 0.2 from the corner (0.8, 0.8, 0.8) of the inner one.
    assert at(rounded, 1, 1, 1) == pytest.approx(0.2 * np.sqrt(3) - 0.2)


def test_a_rod_ends_in_half_spheres():
    assert at(rod((0, 0, 0), (0, 0, 1), 0.1), 0, 0, 3) == pytest.approx(1.9)


def test_a_tapered_rod_has_the_mean_radius_in_its_middle():
    assert at(rod((0, 0, 0), (0, 0, 1), 0.1, 0.3), 1, 0, 0.5) == pytest.approx(0.8)


def test_a_ring_is_hollow_in_the_middle():
    assert at(ring((0, 0, 0), (0, 0, 1), 0.6, 0.2), 0, 0, 0) == pytest.approx(0.4)


def test_a_turned_rectangle_is_a_cylinder():
    cylinder = lathe([(0, -1), (0.5, -1), (0.5, 1), (0, 1)])
    assert at(cylinder, 0.6, 0.8, 0) == pytest.approx(0.5)
    assert at(cylinder, 0, 0.1, 0.9) == pytest.approx(-0.1)
    # From the rim (0.5, 1): 3 out and 4 up.
    assert at(cylinder, 3.5, 0, 5) == pytest.approx(5)


def test_the_axis_of_a_turned_outline_is_no_surface():
    assert at(lathe([(0, -1), (0.5, -1), (0.5, 1), (0, 1)]), 0, 0, 0) == pytest.approx(-0.5)


def test_what_is_removed_is_outside():
    assert at(difference(sphere((0, 0, 0), 1), sphere((0, 0, 0), 0.5)), 0, 0, 0) == pytest.approx(0.5)


def test_a_union_is_as_near_as_the_nearest_of_its_solids():
    assert at(union(sphere((0, 0, 0), 1), sphere((5, 0, 0), 1)), 3, 0, 0) == pytest.approx(1)


def test_a_blend_fills_the_notch_where_two_solids_meet():
    # Equal distances d become d - width / 4.
    assert at(blend(0.2, box((-1, 0, 0), (1, 1, 1)), box((1, 0, 0), (1, 1, 1))), 0, 1.5, 0) == pytest.approx(0.45)


def test_copies_around_the_axis_are_turned_copies():
    four = around(4, sphere((1, 0, 0), 0.1))
    assert at(four, 0, -1, 0) == pytest.approx(-0.1, abs=1e-6)
    assert at(four, 0, 2, 0) == pytest.approx(0.9)


def test_a_mirrored_solid_is_on_both_sides():
    assert at(mirrored(sphere((0, 1, 0), 0.5)), 0, -1, 0) == pytest.approx(-0.5)


def test_a_moved_solid_is_tilted_then_turned_then_shifted():
    # The rod along z is tilted to -y, then turned by 90 degrees to +x, then shifted up.
    placed = moved(rod((0, 0, 0), (0, 0, 1), 0.1), (0, 0, 2), tilt_degrees=90, turn_degrees=90)
    assert at(placed, 1, 0, 2) == pytest.approx(-0.1, abs=1e-6)
