import numpy as np
import pytest
from benchmarks.reconstruction.alignment import align
from scipy.spatial.transform import Rotation
from trimesh import Trimesh
from trimesh.creation import box as box_mesh


@pytest.fixture(scope="module")
def shape():
    """Boxes of which no rotation or mirror image is the same."""
    boxes = [
        box_mesh((1.2, 0.2, 0.2)),
        box_mesh((0.2, 0.9, 0.2)).apply_translation((0.6, 0.45, 0)),
        box_mesh((0.2, 0.2, 0.6)).apply_translation((-0.6, 0, 0.3)),
    ]
    vertices = np.vstack([one.vertices for one in boxes])
    faces = np.vstack([one.faces + 8 * index for index, one in enumerate(boxes)])
    return Trimesh(vertices, faces, process=False)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (90, 0, 0), (0, 0, 180), (35, -70, 120)])
def test_a_turned_moved_and_scaled_copy_is_laid_over_its_original(shape, degrees):
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = (3, -1, 0.5)
    laid = align(shape.copy().apply_transform(matrix), shape)
    # The points of both surfaces are drawn at random, so that they never match exactly.
    assert np.abs(laid.vertices - shape.vertices).max() < 0.02


def test_a_mirror_image_stays_one(shape):
    mirror = Trimesh(shape.vertices * (-1, 1, 1), shape.faces[:, ::-1], process=False)
    assert np.abs(align(mirror, shape).vertices - shape.vertices).max() > 0.1
