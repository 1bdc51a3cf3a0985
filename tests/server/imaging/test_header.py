"""What files claim, and which claims are too much; the files are Pillow's and tifffile's, or written by hand."""

import random
import struct
import subprocess
import sys

import pytest
from benchmarks.robustness.bombs import BOMBS
from benchmarks.robustness.material import FRAMES, HEIGHT, WIDTH, encoded, small_files
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cutstream_server.errors import CutstreamError, ImageEmptyError, ImageTooLargeError, ImageUndecodableError
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.header import Header, ImageLimits, read_header

LIMITS = ImageLimits(max_pixels=64_000_000, max_side=32_768, max_frames=1000)
FILES = small_files()
SIZES = [(1, 1), (2, 1), (255, 3), (300, 400), (1000, 7)]
PLAIN = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "AVIF": {"speed": 10},
    "TIFF": {},
    "BMP": {},
    "GIF": {},
}


def refusal(data, limits=LIMITS):
    with pytest.raises(ImageTooLargeError) as caught:
        read_header(data, limits)
    return caught.value.metadata


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("kind", PLAIN)
def test_the_size_is_that_of_the_picture(kind, width, height):
    name = kind.split()[0]
    data = encoded(Image.new("RGB", (width, height), (9, 99, 199)), name, **PLAIN[kind])
    assert read_header(data, LIMITS) == Header(name, width, height, 1)


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_is_understood(kind):
    animated = kind.endswith(("animated", "pages"))
    assert read_header(FILES[kind], LIMITS) == Header(kind.split()[0], WIDTH, HEIGHT, FRAMES if animated else 1)


def test_rows_stored_from_the_top_are_no_negative_height():
    data = bytearray(encoded(Image.new("RGB", (5, 3)), "BMP"))
    data[22:26] = struct.pack("<i", -3)
    assert (read_header(bytes(data), LIMITS).width, read_header(bytes(data), LIMITS).height) == (5, 3)


def test_the_first_of_the_bitmap_headers_has_short_sizes():
    data = b"BM" + struct.pack("<IHHIIHHHH", 29, 0, 0, 26, 12, 5, 3, 1, 24) + bytes(48)
    assert read_header(data, LIMITS).pixels == 15


def test_pixels_over_the_limit():
    data = encoded(Image.new("L", (101, 100)), "PNG")
    limits = ImageLimits(max_pixels=10_000, max_side=1000, max_frames=1)
    assert refusal(data, limits) == {"limit": "10000", "measured": "10100", "unit": "pixels"}


def test_a_side_over_the_limit():
    data = encoded(Image.new("L", (2, 101)), "PNG")
    limits = ImageLimits(max_pixels=10_000, max_side=100, max_frames=1)
    assert refusal(data, limits) == {"limit": "100", "measured": "101", "unit": "pixels_per_side"}


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind.endswith(("animated", "pages"))])
def test_frames_over_the_limit(kind):
    found = refusal(FILES[kind], ImageLimits(max_pixels=10_000, max_side=1000, max_frames=2))
    assert (found["limit"], found["unit"]) == ("2", "frames")


UNITS = {
    "PNG 20,000 x 20,000": "pixels",
    "PNG 2,000,000 x 1": "pixels_per_side",
    "PNG 100,000 chunks": "parts",
    "PNG 4,000,000,000 frames": "frames",
    "TIFF 20,000 x 20,000": "pixels",
    "WebP 10,000 frames": "frames",
    "WebP canvas of 16,383 x 16,383": "pixels",
    "GIF 65,535 x 65,535": "pixels",
    "GIF frame larger than its screen": "pixels",
    "GIF 10,000 frames": "frames",
    "JPEG 65,500 x 65,500": "pixels",
    "JPEG 1000 scans over 8000 x 8000": "scans",
    "JPEG 100,000 segments": "parts",
    "BMP 2,147,483,647 x 2,147,483,647": "pixels",
}


@pytest.mark.parametrize("name", UNITS)
def test_a_bomb_is_refused_by_its_header(name):
    found = refusal(BOMBS[name]())
    assert found["unit"] == UNITS[name]
    assert {"limit", "measured"} <= set(found)


def test_tiff_directories_in_a_circle_end():
    directory = struct.pack("<H", 2) + struct.pack("<HHII", 256, 4, 1, 5) + struct.pack("<HHII", 257, 4, 1, 3)
    assert refusal(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 8))["unit"] == "frames"


def test_a_grid_counts_as_a_whole_though_its_tiles_come_first():
    def box(kind, body):
        return struct.pack(">I", 8 + len(body)) + kind + body

    sizes = [box(b"ispe", struct.pack(">III", 0, *size)) for size in ((512, 512), (9000, 9000))]
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", b"".join(sizes))))
    assert refusal(box(b"ftyp", b"avif" + bytes(4) + b"avif") + meta)["measured"] == "81000000"


def test_no_bytes():
    with pytest.raises(ImageEmptyError):
        read_header(b"", LIMITS)


def test_an_image_without_pixels():
    with pytest.raises(ImageUndecodableError):
        read_header(encoded(Image.new("L", (1, 1)), "PNG")[:16] + bytes(30), LIMITS)


@pytest.mark.parametrize("kind", FILES)
def test_a_truncated_header_is_a_typed_error(kind):
    for size in range(4, 60):
        try:
            read_header(FILES[kind][:size], LIMITS)
        except CutstreamError:
            continue


def damaged(kind, seed):
    """A file with some bytes replaced, most of them near its beginning, where headers are."""
    choose, data = random.Random(seed), bytearray(FILES[kind])
    for _ in range(choose.randint(1, 8)):
        at = min(int(choose.expovariate(1 / 200)), len(data) - 1)
        data[at] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
    return bytes(data)


@given(st.sampled_from(sorted(FILES)), st.integers(0, 2**32))
def test_a_damaged_file_is_read_or_refused_by_a_typed_error(kind, seed):
    try:
        read_header(damaged(kind, seed), LIMITS)
    except CutstreamError:
        return


@given(st.sampled_from(sorted(FILES)), st.integers(0, 2**32))
def test_no_decoded_picture_is_larger_than_its_header_said(kind, seed):
    data = damaged(kind, seed)
    small = ImageLimits(max_pixels=1_000_000, max_side=10_000, max_frames=1000)
    try:
        header = read_header(data, small)
        image = decode_image(data, max_pixels=1_000_000)
    except CutstreamError:
        return
    assert image.width * image.height <= header.pixels


def test_reading_a_header_loads_no_library_that_decodes():
    code = "import sys; sys.modules.update(PIL=None, cv2=None, numpy=None); import cutstream_server.imaging.header"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
