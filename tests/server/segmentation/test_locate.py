import numpy as np
import pytest

from cutstream_server.imaging.geometry import Size
from cutstream_server.segmentation.locate import locate_object
from cutstream_server.segmentation.window import Window

SOURCE = Size(640, 320)


def seen(*parts):
    """A network's map of 512 x 512 with (left, top, right, bottom, alpha) in it."""
    alpha = np.zeros((512, 512), np.float32)
    for left, top, right, bottom, value in parts:
        alpha[top:bottom, left:right] = value
    return alpha


def test_the_window_is_the_box_with_a_quarter_at_each_edge():
    # The box is 1/4 to 1/2 across and down; with a quarter of 1/4 at each edge: 3/16 to 9/16, which are lines of 1/32.
    assert locate_object(seen((128, 128, 256, 256, 1.0)), SOURCE) == Window(120, 60, 360, 180)


def test_the_window_ends_at_the_image():
    assert locate_object(seen((0, 0, 512, 512, 1.0)), SOURCE) == Window(0, 0, 640, 320)


def test_a_faint_object_is_located_as_a_bright_one():
    bright, faint = (locate_object(seen((128, 128, 256, 256, value)), SOURCE) for value in (1.0, 0.2))
    assert faint == bright


def test_a_small_part_far_off_does_not_widen_the_window():
    alone = locate_object(seen((128, 128, 256, 256, 1.0)), SOURCE)
    assert locate_object(seen((128, 128, 256, 256, 1.0), (480, 0, 490, 300, 1.0)), SOURCE) == alone


def test_two_parts_of_one_size_are_both_inside():
    window = locate_object(seen((32, 128, 128, 256, 1.0), (320, 128, 416, 256, 1.0)), SOURCE)
    assert window.left <= 40
    assert window.right >= 520


@pytest.mark.parametrize("value", [0.0, 0.04])
def test_a_map_that_shows_nothing_has_no_window(value):
    assert locate_object(seen((128, 128, 256, 256, value)), SOURCE) is None


def test_the_window_of_a_tiny_image_holds_a_pixel():
    window = locate_object(seen((250, 250, 254, 254, 1.0)), Size(3, 2))
    assert window.right > window.left
    assert window.bottom > window.top
