"""Boxes by their edges and crops by their corner."""

from __future__ import annotations

from cutstream_server.imaging.geometry import Box, CropBox, Point


def test_a_box_is_as_wide_and_high_as_its_edges_are_apart():
    box = Box(left=-2.0, top=1.5, right=4.0, bottom=3.0)

    assert (box.width, box.height) == (6.0, 1.5)


def test_the_center_of_a_box_is_half_way_between_its_edges():
    assert Box(left=-2.0, top=1.0, right=4.0, bottom=4.0).center == Point(1.0, 2.5)


def test_the_center_of_a_crop_is_half_its_size_from_its_corner():
    assert CropBox(left=-10.0, top=5.0, width=30.0, height=12.0).center == Point(5.0, 11.0)
