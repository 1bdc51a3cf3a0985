import numpy as np

from cutstream_server.imaging.geometry import Size
from cutstream_server.segmentation.window import MAX_MAP_PIXELS, Window, map_size


def test_a_window_is_rows_and_columns_of_the_source():
    rgb = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(Window(1, 2, 4, 4).of(rgb), rgb[2:4, 1:4])


def test_a_window_on_the_sources_own_grid_stays():
    window = Window(3, 5, 30, 17)
    assert window.scaled(Size(100, 50), Size(100, 50)) == window


def test_a_window_on_a_coarser_grid_is_moved_to_its_lines():
    assert Window(10, 20, 31, 39).scaled(Size(100, 100), Size(50, 50)) == Window(5, 10, 16, 20)


def test_a_window_on_a_grid_keeps_a_pixel():
    assert Window(99, 99, 100, 100).scaled(Size(100, 100), Size(10, 10)) == Window(9, 9, 10, 10)


def test_a_map_of_a_usual_image_is_as_fine_as_the_image():
    assert map_size(Size(4000, 3000)) == Size(4000, 3000)


def test_a_map_of_a_large_image_is_bounded():
    size = map_size(Size(8000, 8000))
    assert size == Size(4000, 4000)
    assert size.width * size.height <= MAX_MAP_PIXELS
