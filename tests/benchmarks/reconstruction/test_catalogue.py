import numpy as np
import pytest
from benchmarks.reconstruction.carving import Grid
from benchmarks.reconstruction.catalogue import SHAPES
from benchmarks.reconstruction.meshes import component_count, surface

GRID = Grid(128)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.name)
def shape_and_mesh(request):
    field = -request.param.distance(GRID.centres.astype(np.float32)).reshape(128, 128, 128)
    return request.param, surface(field, 0.0)


def test_a_shape_lies_in_the_unit_sphere(shape_and_mesh):
    _, mesh = shape_and_mesh
    assert np.linalg.norm(mesh.vertices, axis=1).max() <= 1


def test_a_shape_has_the_pieces_and_holes_that_it_was_drawn_with(shape_and_mesh):
    shape, mesh = shape_and_mesh
    assert component_count(mesh) == shape.component_count
    # Euler and Poincaré: vertices - edges + faces = 2 (pieces - holes).
    assert mesh.euler_number == 2 * (shape.component_count - shape.hole_count)


def test_names_of_shapes_are_unique():
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) == 12
