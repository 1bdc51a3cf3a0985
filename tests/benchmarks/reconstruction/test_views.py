import cv2
import numpy as np
import pytest
from benchmarks.reconstruction.views import TEXTURES, background_paths, take_views


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("renderings")


@pytest.fixture(scope="module")
def view(ball, kept):
    return next(take_views(ball, 1, background_paths(None), kept))


@pytest.fixture(scope="module")
def photo(view):
    return cv2.imdecode(np.frombuffer(view.image, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_a_photo_is_as_large_as_its_camera_says(view, photo):
    assert photo.shape == (view.camera.height_px, view.camera.width_px, 3) == (*view.truth.shape[:2], 3)


def test_where_the_object_is_opaque_the_photo_shows_it(view, photo):
    opaque = cv2.erode((view.truth[..., 3] == 255).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    # Noise of 2 of 255 and JPEG.
    assert np.abs(photo.astype(float) - view.truth[..., :3])[opaque].mean() < 5


def test_every_view_is_the_same_in_the_next_run(ball, kept, view):
    again = next(take_views(ball, 1, background_paths(None), kept))
    assert again.image == view.image
    assert np.array_equal(again.truth, view.truth)


def test_the_whole_unit_sphere_is_in_the_photo(view):
    around = np.random.default_rng(1).standard_normal((5000, 3))
    pixels = view.camera.project(around / np.linalg.norm(around, axis=1, keepdims=True))
    assert np.all(pixels >= 0)
    assert np.all(pixels <= [view.camera.width_px, view.camera.height_px])


def test_backgrounds_of_a_folder_are_taken_from_there(tmp_path):
    (tmp_path / "backgrounds").mkdir()
    (tmp_path / "backgrounds" / "sea.png").write_bytes(b"")
    assert background_paths(tmp_path) == [tmp_path / "backgrounds" / "sea.png"]


def test_a_folder_without_backgrounds_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="backgrounds holds no pictures"):
        background_paths(tmp_path)


def test_without_a_folder_there_are_textures():
    assert [path.stem for path in background_paths(None)] == list(TEXTURES)
