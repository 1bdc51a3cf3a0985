import numpy as np

from cutstream_server.imaging.geometry import Size
from cutstream_server.segmentation.window import MAX_MAP_PIXELS, Window, map_size


def test_a_window_is_rows_and_columns_of_the_source():
    rgb = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(Window(1, 2, 4, 4).of(rgb), rgb[2:4, 1:4])


def test_a_map_is_as_fine_as_the_source_where_the_look_is_finer():
    assert map_size(Size(900, 600), Window(100, 100, 600, 500), Size(1024, 1024)) == Size(900, 600)


def test_a_map_is_as_fine_as_the_look_where_the_source_is_finer():
    assert map_size(Size(4000, 3000), Window(0, 0, 2048, 2048), Size(1024, 1024)) == Size(2000, 1500)


def test_a_map_of_a_large_image_is_bounded():
    size = map_size(Size(8000, 8000), Window(0, 0, 500, 500), Size(1024, 1024))
    assert size == Size(4096, 4096)
    assert size.width * size.height <= MAX_MAP_PIXELS
