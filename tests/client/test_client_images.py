"""What goes in: paths, bytes, PIL images and arrays arrive with the same pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutstream import StreamImage
from cutstream.images import as_stream_image, default_id, encoded

RNG = np.random.default_rng(0)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_they_are(kind):
    assert encoded(kind(b"\xff\xd8 not decoded here")) == b"\xff\xd8 not decoded here"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_sent_as_it_is(kind, tmp_path):
    (tmp_path / "a").write_bytes(b"whatever")
    assert encoded(kind(tmp_path / "a")) == b"whatever"


def test_a_missing_file_raises_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        encoded(tmp_path / "missing")


@pytest.mark.parametrize("channels", [3, 4])
def test_an_array_arrives_with_its_pixels(channels):
    array = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    assert np.array_equal(np.asarray(decoded(encoded(array))), array)


@pytest.mark.parametrize("array", [np.zeros((5, 7), np.uint8), np.zeros((5, 7, 2), np.uint8), np.zeros((5, 7, 3))])
def test_an_array_of_another_kind_is_refused_with_the_kinds_that_work(array):
    with pytest.raises(ValueError, match=r"uint8 of shape \(H, W, 3\)"):
        encoded(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_a_pil_image_arrives_with_its_mode_and_pixels(mode):
    image = Image.frombytes("L", (6, 4), bytes(range(0, 240, 10))).convert(mode if mode != "I;16" else "I")
    if mode == "I;16":
        image = Image.frombytes("I;16", (2, 2), bytes(range(8)))
    again = decoded(encoded(image))
    assert (again.mode, again.size) == (mode, image.size)
    assert again.tobytes() == image.tobytes()


def test_a_pil_image_keeps_its_orientation():
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    assert decoded(encoded(image)).getexif()[0x0112] == 6


def test_a_pil_image_keeps_its_colour_profile():
    image = Image.new("RGB", (4, 2))
    image.info["icc_profile"] = b"a profile"
    assert decoded(encoded(image)).info["icc_profile"] == b"a profile"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_of_unknown_range_is_refused(mode):
    with pytest.raises(ValueError, match="convert it to 8 bits"):
        encoded(Image.new(mode, (2, 2)))


def test_anything_else_is_a_type_error():
    with pytest.raises(TypeError, match="not int"):
        encoded(7)  # type: ignore[arg-type]


def test_a_pair_names_its_image():
    assert as_stream_image(("cat", b"data")) == StreamImage(b"data", "cat")


def test_an_id_over_256_bytes_of_utf8_is_refused():
    assert as_stream_image(("ä" * 128, b"")).image_id == "ä" * 128
    with pytest.raises(ValueError, match="longer than 256 bytes"):
        as_stream_image(("ä" * 129, b""))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("photos/cat.jpg", "photos/cat.jpg"),
        (Path("photos/cat.jpg"), "photos/cat.jpg"),
        (b"bytes", "3"),
        ("x" * 257, "3"),
        ("caf\udce9.jpg", "3"),
    ],
)
def test_an_image_without_id_is_named_by_its_path_or_number(image, expected):
    assert default_id(image, 3) == expected
