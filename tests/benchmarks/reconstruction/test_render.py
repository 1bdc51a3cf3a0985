import numpy as np
import pytest
from benchmarks.reconstruction.cameras import Camera
from benchmarks.reconstruction.paints import mottled
from benchmarks.reconstruction.render import render
from benchmarks.reconstruction.shapes import Part, Shape
from benchmarks.reconstruction.solids import rod, sphere

SIDE = 120


def shape_of(solid):
    return Shape("one", (Part(solid, mottled((0.8, 0.4, 0.2))),), component_count=1, hole_count=0)


def camera(distance=4.0, focal=200.0):
    centre = (SIDE / 2, SIDE / 2)
    return Camera.orbiting(20, 30, distance, focal_px=focal, centre_px=centre, width_px=SIDE, height_px=SIDE)


def test_a_sphere_covers_the_disc_of_its_outline():
    # Radius of the outline: focal * r / sqrt(distance^2 - r^2). Rays end a little before the surface.
    radius = 200 * 0.8 / np.sqrt(16 - 0.64)
    assert render(shape_of(sphere((0, 0, 0), 0.8)), camera()).alpha.sum() == pytest.approx(np.pi * radius**2, rel=2e-3)


def test_an_outline_has_shares_of_pixels():
    alpha = render(shape_of(sphere((0, 0, 0), 0.8)), camera()).alpha
    rows, columns = np.indices(alpha.shape) + 0.5
    from_outline = np.hypot(columns - SIDE / 2, rows - SIDE / 2) - 200 * 0.8 / np.sqrt(16 - 0.64)
    # A straight outline leaves between 0 and 1 of a pixel; its middle is half a pixel's diagonal away at most.
    assert np.all(alpha[from_outline < -0.75] == 1)
    assert np.all(alpha[from_outline > 0.75] == 0)
    assert alpha[np.abs(from_outline) < 0.1] == pytest.approx(0.5, abs=0.2)


def test_a_rod_thinner_than_a_pixel_is_not_lost_between_rays():
    # 1.2 long and 0.4 px thick, in the picture's plane.
    thin = rod((0, 0, -0.6), (0, 0, 0.6), 0.001 * 4)
    flat = Camera.orbiting(0, 0, 4, focal_px=200, centre_px=(60, 60), width_px=SIDE, height_px=SIDE)
    covered = render(shape_of(thin), flat).alpha.sum()
    assert covered == pytest.approx(1.2 * 50 * 0.4, rel=0.1)


def test_light_comes_from_above():
    rendering = render(shape_of(sphere((0, 0, 0), 0.8)), camera())
    assert rendering.foreground[35, 60].mean() > rendering.foreground[85, 60].mean()


def test_the_paint_is_seen():
    red, green, blue = render(shape_of(sphere((0, 0, 0), 0.8)), camera()).foreground[60, 60]
    assert red > green > blue
