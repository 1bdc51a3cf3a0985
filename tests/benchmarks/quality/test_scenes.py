import cv2
import numpy as np
import pytest
from benchmarks.quality.scenes import CONDITIONS, compose_scenes

OBJECTS, BACKGROUNDS = 4, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Discs of four colours, and four even backgrounds."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "rgba").mkdir()
    (folder / "backgrounds").mkdir()
    y, x = np.mgrid[:200, :200]
    disc = (np.hypot(x - 100, y - 100) < 80).astype(np.uint8) * 255
    for index in range(OBJECTS):
        colour = np.full((200, 200, 3), (50 * index, 200 - 50 * index, 128), np.uint8)
        cv2.imwrite(str(folder / "rgba" / f"object{index}.png"), np.dstack([colour, disc]))
    for index in range(BACKGROUNDS):
        cv2.imwrite(str(folder / "backgrounds" / f"wall{index}.png"), np.full((300, 400, 3), 60 * index, np.uint8))
    return folder


@pytest.fixture(scope="module")
def scenes(data):
    return {split: list(compose_scenes(data, 10, split)) for split in ("tuning", "reporting")}


def test_the_same_call_gives_the_same_files(data, scenes):
    again = list(compose_scenes(data, 3, "tuning"))
    assert [scene.data for scene in again] == [scene.data for scene in scenes["tuning"][:3]]


def test_the_splits_share_no_object(scenes):
    names = [{scene.object_name for scene in split} for split in scenes.values()]
    assert not names[0] & names[1]


def test_the_splits_share_no_background(scenes):
    names = [{scene.background for scene in split} for split in scenes.values()]
    assert not names[0] & names[1]


@pytest.mark.parametrize("split", ["tuning", "reporting"])
def test_no_scene_repeats_an_object_under_a_condition(scenes, split):
    seen = [(scene.object_name, scene.condition) for scene in scenes[split]]
    assert len(set(seen)) == len(seen)
    assert {condition for _, condition in seen} <= set(CONDITIONS)


@pytest.mark.parametrize("split", ["tuning", "reporting"])
def test_where_the_object_is_opaque_the_picture_shows_its_colour(scenes, split):
    for scene in scenes[split]:
        if scene.condition in ("noisy", "blurred"):
            continue
        opaque = scene.alpha == 1
        shown, true = scene.rgb[opaque], 255 * scene.foreground[opaque]
        np.testing.assert_allclose(shown, true, atol=0.51)
