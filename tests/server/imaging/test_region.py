"""The part of a map under a crop."""

import numpy as np

from cutstream_server.imaging.geometry import Box, CropBox, Size
from cutstream_server.imaging.region import sample_region


def square_map():
    alpha = np.zeros((100, 100), np.float32)
    alpha[40:60, 30:50] = 1
    return alpha


def test_a_map_in_source_pixels_is_taken_as_it_is():
    alpha = square_map()
    region = sample_region(alpha, Size(100, 100), CropBox(20.0, 30.0, 40.0, 40.0))
    np.testing.assert_array_equal(region.alpha, alpha[30:70, 20:60])
    assert (region.left, region.top) == (20, 30)


def test_a_box_found_in_the_region_is_in_pixels_of_the_source():
    region = sample_region(square_map(), Size(100, 100), CropBox(20.0, 30.0, 40.0, 40.0))
    assert region.foreground_box(0.5) == Box(30.0, 40.0, 50.0, 60.0)


def test_what_reaches_outside_the_image_is_left_out():
    region = sample_region(square_map(), Size(100, 100), CropBox(-50.0, 90.0, 500.0, 500.0))
    assert region.alpha.shape == (10, 100)


def test_a_crop_outside_the_image_still_gives_a_pixel():
    assert sample_region(square_map(), Size(100, 100), CropBox(500.0, 500.0, 5.0, 5.0)).alpha.size == 1


def test_the_margin_counts_map_pixels():
    region = sample_region(square_map(), Size(1000, 1000), CropBox(300.0, 400.0, 200.0, 200.0), margin=2)
    assert (region.left, region.top) == (280, 380)
    assert region.alpha.shape == (240, 240)


def test_a_crop_is_shifted_into_the_region():
    region = sample_region(square_map(), Size(100, 100), CropBox(20.0, 30.0, 40.0, 40.0))
    assert region.shift(CropBox(20.5, 31.0, 4.0, 4.0)) == CropBox(0.5, 1.0, 4.0, 4.0)


def test_an_enlarged_map_is_boxed_where_it_exceeds_the_threshold_after_interpolation():
    region = sample_region(square_map(), Size(1000, 1000), CropBox(200.0, 300.0, 500.0, 500.0))
    box = region.foreground_box(0.1)
    # Bilinear between map pixel centres: 0.1 is reached 0.4 map pixels outside the map pixel's edge.
    assert box == Box(296.0, 396.0, 504.0, 604.0)
