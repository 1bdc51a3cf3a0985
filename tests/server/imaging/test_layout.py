"""The cutout's size and the crop on whole pixels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutstream_server.errors import OutputTooLargeError
from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.layout import lay_out

CROP = CropBox(10.3, 20.6, 100.4, 100.4)


def test_fixed_keeps_the_crop_and_the_size():
    layout = lay_out(CROP, Size(518, 518), "fixed")
    assert layout.crop == CROP
    assert layout.size == (518, 518)


def test_native_rounds_the_crop_outwards_to_whole_pixels():
    layout = lay_out(CROP, Size(518, 518), "native")
    assert layout.size == (101, 101)
    # The middle was at 60.5, 70.8.
    assert layout.crop == CropBox(10.0, 20.0, 101.0, 101.0)


def test_native_keeps_a_crop_that_is_whole_already():
    crop = CropBox(-5.0, 3.0, 40.0, 30.0)
    assert lay_out(crop, Size(4, 3), "native").crop == crop


def test_longest_at_most_never_enlarges():
    assert lay_out(CROP, Size(518, 518), "longest_at_most").size == (101, 101)


def test_longest_at_most_reduces_to_the_limit():
    assert lay_out(CropBox(0.0, 0.0, 1000.0, 500.0), Size(200, 100), "longest_at_most").size == (200, 100)


@given(st.floats(1, 3000), st.floats(1, 3000), st.integers(1, 600))
def test_a_reduced_cutout_has_the_aspect_of_its_crop_and_shows_no_less(width, height, limit):
    layout = lay_out(CropBox(0.0, 0.0, width, height), Size(limit, limit), "longest_at_most")
    assert layout.crop.width / layout.size.width == pytest.approx(layout.crop.height / layout.size.height)
    assert max(layout.size) <= max(limit, max(width, height) + 1)


def test_a_native_cutout_of_more_than_4096_squared_pixels_is_refused():
    with pytest.raises(OutputTooLargeError) as caught:
        lay_out(CropBox(0.0, 0.0, 4097.0, 4096.0), Size(1, 1), "native")
    assert caught.value.metadata["measured"] == str(4097 * 4096)
