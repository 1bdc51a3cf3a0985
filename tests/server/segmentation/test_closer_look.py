import numpy as np
import pytest

from cutstream_server.imaging.geometry import Size
from cutstream_server.segmentation.closer_look import put_back
from cutstream_server.segmentation.window import Window

SOURCE = Size(256, 256)
WINDOW = Window(64, 64, 192, 192)


def whole(alpha):
    """A first look that has this alpha in a square in the window's middle."""
    first = np.zeros((512, 512), np.float32)
    first[192:320, 192:320] = alpha
    return first


def close(left, right, alpha):
    """A closer look that has this alpha in columns of its middle rows."""
    look = np.zeros((1024, 1024), np.float32)
    look[256:768, left:right] = alpha
    return look


SAME = (256, 768)
HALF = (256, 512)


def middle(alpha):
    """The object's left and right half in the source, away from edges."""
    return float(alpha[100:150, 100:124].mean()), float(alpha[100:150, 132:156].mean())


def test_looks_that_agree_are_averaged_by_how_far_they_are_from_one_half():
    # Weights (2 * 0.9 - 1)^2 + 0.01 = 0.65 and 0.37; the average's distance from one half is raised by a quarter.
    alpha, _ = put_back(whole(0.9), close(*SAME, 0.8), WINDOW, SOURCE)
    expected = 0.5 + 1.25 * ((0.65 * 0.9 + 0.37 * 0.8) / 1.02 - 0.5)
    assert middle(alpha) == (pytest.approx(expected, abs=1e-4), pytest.approx(expected, abs=1e-4))


def test_a_decisive_closer_look_is_believed_against_an_unsure_first():
    alpha, agreed = put_back(whole(0.7), close(*HALF, 1.0), WINDOW, SOURCE)
    assert agreed < 0.6
    assert middle(alpha) == (1.0, 0.0)


def test_of_two_decisive_looks_that_disagree_neither_takes_anything_away():
    alpha, agreed = put_back(whole(1.0), close(*HALF, 1.0), WINDOW, SOURCE)
    assert agreed == pytest.approx(0.5, abs=0.02)
    assert middle(alpha) == (1.0, 1.0)


def test_an_unsure_closer_look_takes_nothing_away():
    alpha, _ = put_back(whole(0.7), close(*HALF, 0.7), WINDOW, SOURCE)
    assert middle(alpha) == (pytest.approx(0.75), pytest.approx(0.75))


def test_a_mask_of_whole_alphas_comes_back_as_it_was():
    alpha, _ = put_back(whole(1.0), close(*SAME, 1.0), WINDOW, SOURCE)
    expected = np.zeros((256, 256), np.float32)
    expected[96:160, 96:160] = 1
    np.testing.assert_allclose(alpha, expected, atol=0.15)


def test_outside_the_window_is_nothing():
    first = whole(1.0)
    first[:64] = 1.0
    alpha, _ = put_back(first, close(*SAME, 1.0), WINDOW, SOURCE)
    assert alpha[:64].max() == 0
    assert alpha.shape == (256, 256)


def test_two_empty_looks_make_an_empty_map():
    assert put_back(whole(0.0), close(*SAME, 0.0), WINDOW, SOURCE)[0].max() == 0


def test_on_a_coarser_map_the_object_keeps_its_place():
    """A window of 2048 x 2048 seen at 1024: the map has half the source's resolution."""
    source, window = Size(3000, 2600), Window(301, 203, 2349, 2251)
    first = np.zeros((1024, 1024), np.float32)
    look = np.zeros((1024, 1024), np.float32)
    look[256:512, 384:768] = 1
    left, top, right, bottom = 301 + 768, 203 + 512, 301 + 1536, 203 + 1024
    first[
        round(top * 1024 / 2600) : round(bottom * 1024 / 2600), round(left * 1024 / 3000) : round(right * 1024 / 3000)
    ] = 1
    alpha, _ = put_back(first, look, window, source)
    assert alpha.shape == (1300, 1500)
    rows, columns = alpha.sum(axis=1), alpha.sum(axis=0)
    middle_x = 2 * (columns @ (np.arange(1500) + 0.5)) / columns.sum()
    middle_y = 2 * (rows @ (np.arange(1300) + 0.5)) / rows.sum()
    assert (middle_x, middle_y) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=1.0)
    assert 4 * alpha.sum() == pytest.approx((right - left) * (bottom - top), rel=0.01)
