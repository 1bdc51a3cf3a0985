import numpy as np
import pytest
from benchmarks.quality.frame import Result, nothing_found
from benchmarks.quality.measures import measure
from benchmarks.quality.scenes import Scene

from cutstream_server.imaging.geometry import CropBox

SIDE = 1000
BOX = (300, 200, 700, 600)


def square_scene():
    """An opaque orange square of 400 px on blue."""
    alpha = np.zeros((SIDE, SIDE), np.float32)
    left, top, right, bottom = BOX
    alpha[top:bottom, left:right] = 1
    orange = np.broadcast_to(np.float32([1.0, 0.5, 0.0]), (SIDE, SIDE, 3))
    rgb = np.where(alpha[..., np.newaxis] > 0, 255 * orange, (0, 0, 255)).astype(np.uint8)
    return Scene("square", "square", "plain", "blue", rgb, alpha, orange, 95)


def cutout(scene, left, top, side):
    """The truth at source resolution in a crop of whole pixels inside the image."""
    inside = np.s_[top : top + side, left : left + side]
    rgba = np.dstack([scene.rgb[inside], np.uint8(255 * scene.alpha[inside])])
    return Result(rgba, CropBox(left, top, side, side))


def test_the_truth_itself_has_no_error():
    scene = square_scene()
    found = measure(cutout(scene, 200, 100, 600), scene)
    assert found.composite == pytest.approx(0, abs=0.1)  # Colours have 8 bits.
    assert (found.iou, found.wrong, found.cut) == (pytest.approx(100), 0, 0)
    assert found.box == pytest.approx(0)


def test_looser_framing_changes_nothing_but_the_resolution():
    scene = square_scene()
    tight, loose = (measure(cutout(scene, *crop), scene) for crop in ((250, 150, 500), (0, 0, 1000)))
    assert tight.alpha_mae == pytest.approx(loose.alpha_mae, abs=0.01)


def test_what_lies_outside_the_crop_is_transparent():
    scene = square_scene()
    # The crop ends in the middle of the square, whose half is (400 / 480)^2 / 2 of the frame.
    found = measure(cutout(scene, 100, 0, 400), scene)
    assert found.alpha_mae == pytest.approx(100 * (400 / 480) ** 2 * (1 - 0.5 * 0.5), abs=1.0)
    assert found.cut == 1


def test_nothing_found_is_the_whole_object_lost():
    scene = square_scene()
    found = measure(nothing_found(SIDE, SIDE), scene)
    # Orange over black, white and green: 1.5, 1.5 and 1.5 of 3 channels are off on the square.
    assert found.composite == pytest.approx(100 * (400 / 480) ** 2 * 0.5, abs=0.5)
    assert (found.iou, found.wrong, found.box) == (0, 1, 100)


def test_the_centre_of_mass_in_the_crops_middle_is_centred():
    scene = square_scene()
    assert measure(cutout(scene, 200, 100, 600), scene).centring == pytest.approx(0, abs=1e-3)
    assert measure(cutout(scene, 260, 100, 600), scene).centring == pytest.approx(100 * 60 / 600, abs=1e-3)
