"""Small pictures of everything that a run may meet."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from cutstream.bulk.report_thumbnails import Picture, make_thumbnails


@pytest.fixture
def small(tmp_path):
    """Makes the small picture of a file, as an array; None when there is none."""

    def make(path):
        (name,) = make_thumbnails([Picture(path, "1")], tmp_path / "small")
        if name is None:
            return None
        with Image.open(tmp_path / "small" / name) as image:
            return np.asarray(image, int)

    return make


def test_the_long_side_becomes_256_pixels(tmp_path, small):
    Image.new("RGB", (1024, 512)).save(tmp_path / "a.jpg")
    assert small(tmp_path / "a.jpg").shape == (128, 256, 3)


def test_a_small_image_is_not_enlarged(tmp_path, small):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert small(tmp_path / "a.png").shape == (10, 20, 3)


def test_transparency_stays(tmp_path, small):
    Image.new("RGBA", (20, 10), (255, 0, 0, 100)).save(tmp_path / "a.png")
    assert small(tmp_path / "a.png")[5, 5] == pytest.approx((255, 0, 0, 100), abs=5)


def test_the_picture_is_upright(tmp_path, small):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert small(tmp_path / "a.jpg").shape == (20, 10, 3)


def test_grey_of_sixteen_bits_keeps_its_brightness(tmp_path, small):
    Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)).save(tmp_path / "a.png")
    assert small(tmp_path / "a.png")[4, 4] == pytest.approx((0x80, 0x80, 0x80), abs=4)


def test_colour_of_sixteen_bits_keeps_its_brightness_and_transparency(tmp_path, small):
    samples = np.tile(np.array([0x10FF, 0x40FF, 0x80FF, 0xC0FF], np.uint16), (8, 8, 1))
    cv2.imwrite(str(tmp_path / "a.png"), samples)  # BGRA
    assert small(tmp_path / "a.png")[4, 4] == pytest.approx((0x80, 0x40, 0x10, 0xC0), abs=6)


def test_of_a_palette_with_transparency_both_come_through(tmp_path, small):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png", transparency=bytes([0, 90]))
    assert small(tmp_path / "a.png")[4, 4] == pytest.approx((0, 200, 0, 90), abs=6)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n and no more"])
def test_what_cannot_be_read_has_none(tmp_path, small, content):
    (tmp_path / "a.png").write_bytes(content)
    assert small(tmp_path / "a.png") is None


def test_half_a_jpeg_has_none(tmp_path, small, photo):
    (tmp_path / "a.jpg").write_bytes(photo("rocket").read_bytes()[:5000])
    assert small(tmp_path / "a.jpg") is None


def test_a_missing_file_has_none(tmp_path, small):
    assert small(tmp_path / "a.png") is None


def test_formats_that_run_programs_have_none(tmp_path, small):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    assert small(tmp_path / "a.eps") is None


def test_an_image_of_huge_claims_has_none(tmp_path, small):
    # 10,000 x 10,000 pixels in 12 kB.
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    assert small(tmp_path / "a.png") is None


def test_warnings_about_files_do_not_reach_the_user(tmp_path, small, recwarn):
    # Pillow warns above 89 million pixels.
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    small(tmp_path / "a.png")
    assert list(recwarn) == []


def test_the_same_version_is_not_made_again(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    make_thumbnails([Picture(tmp_path / "a.png", "1")], tmp_path / "small")
    (tmp_path / "a.png").unlink()
    assert make_thumbnails([Picture(tmp_path / "a.png", "1")], tmp_path / "small") != [None]


def test_another_version_is_made_and_the_old_one_removed(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    make_thumbnails([Picture(tmp_path / "a.png", "1")], tmp_path / "small")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "a.png")
    (name,) = make_thumbnails([Picture(tmp_path / "a.png", "2")], tmp_path / "small")
    assert [path.name for path in (tmp_path / "small").iterdir()] == [name]
    with Image.open(tmp_path / "small" / name) as image:
        assert image.getpixel((4, 4))[2] > 200


def test_files_of_others_stay(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "holiday.webp").write_bytes(b"mine")
    make_thumbnails([], tmp_path / "small")
    assert (tmp_path / "small" / "holiday.webp").read_bytes() == b"mine"


def test_equal_pictures_share_one_file(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    names = make_thumbnails([Picture(tmp_path / "a.png", "1")] * 40, tmp_path / "small")
    assert len(set(names)) == len(list((tmp_path / "small").iterdir())) == 1


def test_where_there_is_no_image_there_is_no_name(tmp_path):
    assert make_thumbnails([None], tmp_path / "small") == [None]
