import numpy as np
import pytest
from benchmarks.reconstruction.carving import Grid
from benchmarks.reconstruction.meshes import Solid, chamfer_percent, component_count, surface, volume_iou
from benchmarks.reconstruction.solids import ring, sphere, union
from trimesh import Trimesh
from trimesh.creation import box as box_mesh
from trimesh.creation import icosphere

GRID = Grid(96)


def mesh_of(solid):
    return surface(-solid(GRID.centres.astype(np.float32)).reshape(96, 96, 96), 0.0)


def plane(height):
    """A square of side 1."""
    corners = [(0, 0, height), (1, 0, height), (1, 1, height), (0, 1, height)]
    return Solid(Trimesh(corners, [(0, 1, 2), (0, 2, 3)]), np.zeros(0, bool), _spread(height))


def _spread(height):
    x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 20))
    return np.stack([x.ravel(), y.ravel(), np.full(400, float(height))], axis=1)


def test_the_surface_of_a_torus_encloses_its_volume():
    # 2 pi^2 R r^2, positive: faces look outwards.
    assert mesh_of(ring((0, 0, 0), (0, 0, 1), 0.6, 0.2)).volume == pytest.approx(2 * np.pi**2 * 0.6 * 0.04, rel=0.01)


def test_the_inside_of_a_torus_has_its_volume():
    inside = Solid.of(mesh_of(ring((0, 0, 0), (0, 0, 1), 0.6, 0.2)), GRID).inside
    assert np.count_nonzero(inside) * GRID.pitch**3 == pytest.approx(2 * np.pi**2 * 0.6 * 0.04, rel=0.01)


def test_a_shape_that_fills_the_grid_is_closed_at_its_border():
    full = surface(np.ones((16, 16, 16), np.float32), 0.5)
    assert full.is_watertight


def test_a_field_below_the_level_has_no_surface():
    assert surface(np.full((16, 16, 16), 0.4, np.float32), 0.5) is None


def test_overlapping_bodies_count_once():
    both = Trimesh(
        np.vstack([icosphere(3, 0.5).vertices, icosphere(3, 0.5).vertices]),
        np.vstack([icosphere(3, 0.5).faces, icosphere(3, 0.5).faces + len(icosphere(3, 0.5).vertices)]),
        process=False,
    )
    inside = Solid.of(both, GRID).inside
    assert np.count_nonzero(inside) * GRID.pitch**3 == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)


def test_a_small_gap_in_a_surface_does_not_empty_it():
    ball = icosphere(4, 0.5)
    torn = Trimesh(ball.vertices, ball.faces[20:], process=False)
    inside = Solid.of(torn, GRID).inside
    assert np.count_nonzero(inside) * GRID.pitch**3 == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)


def test_spheres_apart_are_two_pieces():
    assert component_count(mesh_of(union(sphere((-0.5, 0, 0), 0.3), sphere((0.5, 0, 0), 0.3)))) == 2


def test_a_vertex_without_a_face_is_no_piece():
    assert component_count(Trimesh([(0, 0, 0), (1, 0, 0), (0, 1, 0), (9, 9, 9)], [(0, 1, 2)], process=False)) == 1


def test_planes_are_as_far_apart_as_one_is_shifted():
    # 0.3 of a diameter of 2.
    assert chamfer_percent(plane(0.0), plane(0.3)) == pytest.approx(15)


def test_concentric_spheres_are_as_far_apart_as_their_radii():
    small, large = (Solid.of(icosphere(5, radius), GRID) for radius in (0.5, 0.7))
    assert chamfer_percent(small, large) == pytest.approx(10, rel=0.01)


def test_a_surface_is_no_distance_from_itself():
    ball = Solid.of(icosphere(3, 0.5), GRID)
    assert chamfer_percent(ball, ball) == pytest.approx(0, abs=1e-6)


def test_boxes_that_share_half_have_a_third_in_common():
    # 1 x 1 x 1, shifted by 0.5: 1/2 of 3/2. Edges lie between voxel centres.
    one, other = box_mesh((1, 1, 1)), box_mesh((1, 1, 1)).apply_translation((0.5, 0, 0))
    assert volume_iou(Solid.of(one, GRID), Solid.of(other, GRID)) == pytest.approx(1 / 3, abs=0.01)
