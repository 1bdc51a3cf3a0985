import numpy as np
import pytest
from benchmarks.reconstruction.cameras import Camera
from benchmarks.reconstruction.carving import Grid, carve

SIDE = 256
RADIUS = 0.8
# So far away that rays are parallel.
FAR = 4000.0
GRID = Grid(96)


def view(azimuth, elevation, distance=FAR):
    focal = 100 * distance
    centre = (SIDE / 2, SIDE / 2)
    return Camera.orbiting(
        azimuth, elevation, distance, focal_px=focal, centre_px=centre, width_px=SIDE, height_px=SIDE
    )


def disc(distance=FAR):
    """The silhouette of the sphere of RADIUS, antialiased by its distance from the outline."""
    outline = 100 * distance * RADIUS / np.sqrt(distance**2 - RADIUS**2)
    rows, columns = np.indices((SIDE, SIDE)) + 0.5
    return np.clip(outline + 0.5 - np.hypot(columns - SIDE / 2, rows - SIDE / 2), 0, 1).astype(np.float32)


def volume(field):
    return np.count_nonzero(field > 0.5) * GRID.pitch**3


def test_two_discs_carve_the_solid_of_two_cylinders():
    # Archimedes and Steinmetz: 16/3 r^3.
    field = carve(GRID, [(view(0, 0), disc()), (view(90, 0), disc())])
    assert volume(field) == pytest.approx(16 / 3 * RADIUS**3, rel=0.01)


def test_three_discs_carve_the_solid_of_three_cylinders():
    # 8 (2 - sqrt 2) r^3.
    field = carve(GRID, [(view(0, 0), disc()), (view(90, 0), disc()), (view(0, 90), disc())])
    assert volume(field) == pytest.approx(8 * (2 - np.sqrt(2)) * RADIUS**3, rel=0.01)


def test_from_nearby_a_disc_carves_a_cone():
    # Across the cone at the origin's plane, its radius is that at which the ray from the eye grazes the sphere.
    field = carve(GRID, [(view(0, 0, 4.0), disc(4.0))])
    middle = field[GRID.side // 2]
    radius = 4 * np.tan(np.arcsin(RADIUS / 4))
    assert np.count_nonzero(middle > 0.5) * GRID.pitch**2 == pytest.approx(np.pi * radius**2, rel=0.01)


def test_a_hull_holds_all_of_the_shape():
    views = [(view(37 * i, 20 * i, 4.0), disc(4.0)) for i in range(6)]
    inside = np.linalg.norm(GRID.centres, axis=1) < RADIUS - GRID.pitch
    assert np.all(carve(GRID, views).ravel()[inside] > 0.5)


def test_one_empty_silhouette_leaves_nothing():
    empty = np.zeros((SIDE, SIDE), np.float32)
    assert carve(GRID, [(view(0, 0), disc()), (view(90, 0), empty)]).max() == 0


def test_what_is_outside_of_a_view_is_empty():
    # 50 px wide: the middle quarter of what the full view shows.
    narrow = Camera.orbiting(0, 0, FAR, focal_px=100 * FAR, centre_px=(25, 25), width_px=50, height_px=50)
    field = carve(GRID, [(narrow, np.ones((50, 50), np.float32))])
    outside = np.abs(GRID.centres[:, 1]) > 0.25 + GRID.pitch
    assert field.ravel()[outside].max() == 0
