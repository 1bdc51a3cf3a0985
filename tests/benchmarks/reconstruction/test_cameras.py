import numpy as np
import pytest
from benchmarks.reconstruction.cameras import Camera


def camera(azimuth=0.0, elevation=0.0, distance=4.0):
    return Camera.orbiting(azimuth, elevation, distance, focal_px=100, centre_px=(60, 40), width_px=120, height_px=80)


def test_the_origin_is_seen_at_the_centre():
    assert camera(35, 50).project(np.zeros((1, 3))) == pytest.approx(np.array([[60, 40]]))


def test_up_in_the_world_is_up_in_the_picture():
    # From 4 away a length of 1 is 100 / 4 pixels; rows count downwards.
    assert camera().project(np.array([[0.0, 0, 1]])) == pytest.approx(np.array([[60, 15]]))


def test_from_the_x_axis_the_y_axis_points_right():
    assert camera().project(np.array([[0.0, 1, 0]])) == pytest.approx(np.array([[85, 40]]))


def test_from_the_y_axis_the_x_axis_points_left():
    assert camera(azimuth=90).project(np.array([[1.0, 0, 0]])) == pytest.approx(np.array([[35, 40]]))


def test_from_above_the_near_side_is_low():
    seen = camera(elevation=45).project(np.array([[0.5, 0, 0]]))
    assert seen[0, 1] > 40


def test_a_ray_through_a_points_pixel_meets_the_point():
    taken, point = camera(35, 50), np.array([[0.3, -0.5, 0.7]])
    along = (point - taken.eye)[0]
    direction = taken.directions(taken.project(point))[0]
    assert direction * np.linalg.norm(along) == pytest.approx(along)
