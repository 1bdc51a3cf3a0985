from __future__ import annotations

import io
import random
import resource
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from cutstream_server.errors import (
    CutstreamError,
    ImageEmptyError,
    ImageTooLargeError,
    ImageUndecodableError,
    UnsupportedFormatError,
)
from cutstream_server.imaging import formats
from cutstream_server.imaging.decode import MAX_PIXELS_CEILING, SourceImage, decode_image

MAX_PIXELS = 20_000_000
ORIENTATION_TAG = 274
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")


def decode(data: bytes) -> SourceImage:
    return decode_image(data, max_pixels=MAX_PIXELS)


def file_of(image: Image.Image, name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def file_of_array(array: np.ndarray, name: str, **options) -> bytes:
    return file_of(Image.fromarray(array), name, **options)


def tiff(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, colour_type: int, bits: int, *chunks: bytes, last: bytes = b"") -> bytes:
    """Write a PNG by hand: (H, W, C) samples; Pillow writes no 16-bit colour."""
    height, width = samples.shape[:2]
    rows = (b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(b"".join(rows))), last, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def random_16(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 65536, (5, 7, channels)).astype(np.uint16)


def corners() -> Image.Image:
    """Draw 48 x 32: red, green, blue and white quarters, so that each of the eight orientations looks different."""
    image = Image.new("RGB", (48, 32), (255, 255, 255))
    image.paste((200, 20, 20), (0, 0, 24, 16))
    image.paste((20, 200, 20), (24, 0, 48, 16))
    image.paste((20, 20, 200), (0, 16, 24, 32))
    return image


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, to 0..255."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_from_srgb(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def xyz_of_primaries(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the matrix from linear RGB with these xy primaries and the D65 white to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


SRGB_TO_XYZ = xyz_of_primaries(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
P3_TO_XYZ = xyz_of_primaries(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
# Bradford adaptation from D65 to D50, as the ICC publishes it.
D65_TO_D50 = np.array(
    [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
)


def p3_to_srgb(rgb: np.ndarray) -> np.ndarray:
    matrix = np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ
    return srgb_from_linear(linear_from_srgb(rgb) @ matrix.T)


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def icc_profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Write an ICC profile of version 4 by hand (ICC.1:2022, section 7)."""
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", header, 0, 128 + len(table + body), b"", 0x04000000, kind, space, connection)
    header[36:40] = b"acsp"
    header[68:80] = fixed(0.9642, 1.0, 0.8249)
    return bytes(header) + table + body


def display_p3() -> bytes:
    adapted = D65_TO_D50 @ P3_TO_XYZ
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    for index, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*adapted[:, index])
        tags[letter + b"TRC"] = curve
    return icc_profile(b"RGB ", b"XYZ ", b"mntr", tags)


def cmyk_press_of_grey_inks() -> bytes:
    """Describe a press whose four inks are one grey: each full ink takes 25 from L* = 100."""
    nodes = [100 - 25 * bin(node).count("1") for node in range(16)]
    ramp = bytes(range(256))
    clut = b"".join(bytes((round(lightness * 2.55), 128, 128)) for lightness in nodes)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + clut + ramp * 3
    return icc_profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut, b"A2B1": lut})


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_pixels_that_pillow_gives(name):
    image = corners()
    data = file_of(image, name)
    source = decode(data)
    assert source.format == name
    assert (source.width, source.height) == (48, 32)
    assert source.rgb.dtype == np.uint8
    assert source.alpha is None
    assert source.exif_orientation == 1
    np.testing.assert_allclose(source.rgb, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation_is_applied_once(name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    stored = corners()
    tagged = stored.copy()
    tagged.getexif()[ORIENTATION_TAG] = orientation
    options = {"tiffinfo": {ORIENTATION_TAG: orientation}} if name == "TIFF" else {"exif": exif, "quality": 95}
    source = decode(file_of(stored, name, **options))
    assert source.exif_orientation == orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged), np.int16)
    assert source.rgb.shape == upright.shape
    # Well inside each quarter, where no codec blurs.
    rows, columns = np.array([4, upright.shape[0] - 5]), np.array([4, upright.shape[1] - 5])
    inner = np.ix_(rows, columns)
    np.testing.assert_allclose(source.rgb[inner].astype(np.int16), upright[inner], atol=4)


def test_orientation_of_a_16_bit_tiff_is_applied_once():
    stored = random_16(3)
    source = decode(tiff(stored, photometric="rgb", extratags=[(ORIENTATION_TAG, "H", 1, 6, True)]))
    assert source.exif_orientation == 6
    np.testing.assert_array_equal(source.rgb, np.rot90(stored, -1))


def test_orientation_turns_alpha_too():
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, 0, 3] = 255
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    source = decode(file_of_array(pixels, "PNG", exif=exif))
    np.testing.assert_array_equal(source.alpha, [[0, 1], [0, 0], [0, 0]])


def test_exif_chunk_behind_the_pixels_of_a_png_counts():
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 3
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    source = decode(png(pixels, 2, 8, last=chunk(b"eXIf", exif.tobytes()[6:])))
    np.testing.assert_array_equal(source.rgb, pixels[::-1, ::-1])


def test_damaged_exif_leaves_the_image_as_stored():
    source = decode(file_of(corners(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert source.exif_orientation == 1
    assert (source.width, source.height) == (48, 32)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_png_of_each_mode_gives_the_pixels_that_pillow_gives(mode):
    image = corners().convert(mode)
    np.testing.assert_array_equal(decode(file_of(image, "PNG")).rgb, np.asarray(image.convert("RGB")))


def test_grey_16_bit_png_keeps_16_bits():
    grey = random_16(1)
    np.testing.assert_array_equal(decode(png(grey, 0, 16)).rgb, np.repeat(grey, 3, axis=2))


def test_rgb_16_bit_png_keeps_16_bits():
    pixels = random_16(3)
    source = decode(png(pixels, 2, 16))
    assert source.rgb.dtype == np.uint16
    np.testing.assert_array_equal(source.rgb, pixels)


def test_rgba_16_bit_png_keeps_16_bits_of_colour_and_alpha():
    pixels = random_16(4)
    source = decode(png(pixels, 6, 16))
    np.testing.assert_array_equal(source.rgb, pixels[..., :3])
    np.testing.assert_allclose(source.alpha, pixels[..., 3] / 65535, atol=1e-6)


def test_grey_alpha_16_bit_png_keeps_16_bits():
    pixels = random_16(2)
    source = decode(png(pixels, 4, 16))
    np.testing.assert_array_equal(source.rgb, np.repeat(pixels[..., :1], 3, axis=2))
    np.testing.assert_allclose(source.alpha, pixels[..., 1] / 65535, atol=1e-6)


@pytest.mark.parametrize(("colour_type", "bits"), [(0, 8), (2, 8), (0, 16), (2, 16)])
def test_transparent_colour_of_a_png_is_alpha_zero(colour_type, bits):
    channels = 3 if colour_type == 2 else 1
    samples = np.full((3, 4, channels), 77, np.uint16)
    samples[1, 2] = 200
    named = chunk(b"tRNS", struct.pack(f">{channels}H", *[200] * channels))
    source = decode(png(samples, colour_type, bits, named))
    expected = np.ones((3, 4), np.float32)
    expected[1, 2] = 0
    np.testing.assert_array_equal(source.alpha, expected)
    np.testing.assert_array_equal(source.rgb[0, 0], [77, 77, 77])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_rgb_16_bit_tiff_keeps_16_bits(byte_order):
    pixels = random_16(3)
    np.testing.assert_array_equal(decode(tiff(pixels, photometric="rgb", byteorder=byte_order)).rgb, pixels)


def test_rgba_16_bit_tiff_keeps_16_bits_of_alpha():
    pixels = random_16(4)
    source = decode(tiff(pixels, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(source.rgb, pixels[..., :3])
    np.testing.assert_allclose(source.alpha, pixels[..., 3] / 65535, atol=1e-6)


def test_16_bit_tiff_of_separate_planes_is_unsupported():
    with pytest.raises(UnsupportedFormatError):
        decode(tiff(random_16(3).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"))


def test_8_bit_tiff_of_separate_planes_is_read():
    pixels = random_16(3).astype(np.uint8)
    source = decode(tiff(pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"))
    np.testing.assert_array_equal(source.rgb, pixels)


def test_premultiplied_alpha_of_a_tiff_is_undone():
    pixels = np.full((2, 2, 4), (100, 50, 25, 128), np.uint8)
    source = decode(tiff(pixels, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_allclose(source.rgb[0, 0], np.array([100, 50, 25]) * 255 / 128, atol=1)
    np.testing.assert_allclose(source.alpha, 128 / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_tiff_is_turned_over(dtype):
    grey = random_16(1)[..., 0].astype(dtype)
    source = decode(tiff(grey, photometric="miniswhite"))
    np.testing.assert_array_equal(source.rgb[..., 0], np.iinfo(dtype).max - grey)


def test_bilevel_tiff_is_black_and_white():
    image = corners().convert("1")
    np.testing.assert_array_equal(decode(file_of(image, "TIFF")).rgb, np.asarray(image.convert("RGB")))


def test_lab_tiff_is_converted_from_d50():
    # a* and b* are stored as two's complement: 236 is -20 (TIFF 6.0, section 23).
    source = decode(tiff(np.full((4, 4, 3), (153, 20, 236), np.uint8), photometric="cielab"))
    lightness, a, b = 153 / 2.55, 20.0, -20.0
    fy = (lightness + 16) / 116
    xyz_d50 = np.array([(fy + a / 500) ** 3 * 0.9642, fy**3, (fy - b / 200) ** 3 * 0.8249])
    expected = srgb_from_linear(np.linalg.inv(D65_TO_D50 @ SRGB_TO_XYZ) @ xyz_d50)
    np.testing.assert_allclose(source.rgb[0, 0], expected, atol=2)


def test_ycbcr_tiff_is_converted():
    image = corners().convert("YCbCr")
    np.testing.assert_allclose(decode(file_of(image, "TIFF")).rgb, np.asarray(corners(), np.int16), atol=2)


def test_floating_point_tiff_is_unsupported():
    with pytest.raises(UnsupportedFormatError) as caught:
        decode(tiff(np.zeros((4, 4), np.float32)))
    assert caught.value.metadata["format"] == "TIFF"


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_inverted_naively(name):
    inks = (
        np.array([[(0, 0, 0, 0), (255, 0, 0, 0), (0, 128, 0, 0), (0, 0, 0, 128)]], np.uint8).repeat(8, 0).repeat(8, 1)
    )
    options = {"quality": 100} if name == "JPEG" else {}
    source = decode(file_of(Image.fromarray(inks, "CMYK"), name, **options))
    ink = inks.astype(np.float64) / 255
    expected = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    np.testing.assert_allclose(source.rgb, expected, atol=3)


def test_cmyk_with_a_profile_is_converted_by_it():
    inks = np.zeros((8, 16, 4), np.uint8)
    inks[:, 8:, 0] = 255
    data = file_of(Image.fromarray(inks, "CMYK"), "JPEG", quality=100, icc_profile=cmyk_press_of_grey_inks())
    source = decode(data)
    grey = srgb_from_linear(((75 + 16) / 116) ** 3)
    np.testing.assert_allclose(source.rgb[4, 2], 255, atol=2)
    np.testing.assert_allclose(source.rgb[4, 13], grey, atol=3)


def test_display_p3_jpeg_is_converted_to_srgb():
    colours = np.array([(200, 100, 50), (128, 128, 128), (30, 120, 60), (90, 60, 180), (255, 0, 0)], np.uint8)
    pixels = np.repeat(colours[np.newaxis], 16, axis=0).repeat(16, axis=1)
    data = file_of_array(pixels, "JPEG", quality=100, subsampling=0, icc_profile=display_p3())
    stored = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_allclose(decode(data).rgb, p3_to_srgb(stored), atol=2)


def test_display_p3_leaves_alpha_alone():
    pixels = np.full((4, 4, 4), (200, 100, 50, 90), np.uint8)
    source = decode(file_of_array(pixels, "PNG", icc_profile=display_p3()))
    np.testing.assert_allclose(source.rgb[0, 0], p3_to_srgb(pixels[0, 0, :3]), atol=1)
    np.testing.assert_allclose(source.alpha, 90 / 255)


def test_palette_with_a_profile_is_converted():
    image = Image.new("P", (4, 4))
    image.putpalette([200, 100, 50])
    source = decode(file_of(image, "PNG", icc_profile=display_p3()))
    np.testing.assert_allclose(source.rgb[0, 0], p3_to_srgb(np.array([200, 100, 50])), atol=1)


def test_16_bits_with_a_foreign_profile_become_8():
    samples = np.full((4, 4, 3), (200 * 257, 100 * 257, 50 * 257), np.uint16)
    embedded = chunk(b"iCCP", b"p3\0\0" + zlib.compress(display_p3()))
    source = decode(png(samples, 2, 16, embedded))
    assert source.rgb.dtype == np.uint8
    np.testing.assert_allclose(source.rgb[0, 0], p3_to_srgb(np.array([200, 100, 50])), atol=1)


def test_srgb_profile_leaves_16_bit_pixels_as_they_are():
    pixels = random_16(3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    embedded = chunk(b"iCCP", b"srgb\0\0" + zlib.compress(profile))
    np.testing.assert_array_equal(decode(png(pixels, 2, 16, embedded)).rgb, pixels)


def test_grey_profile_is_applied_to_grey():
    gamma_18 = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)
    profile = icc_profile(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": white, b"kTRC": gamma_18})
    grey = np.arange(256, dtype=np.uint8)[np.newaxis].repeat(2, axis=0)
    source = decode(file_of_array(grey, "PNG", icc_profile=profile))
    expected = srgb_from_linear((grey / 255) ** 1.8)
    np.testing.assert_allclose(source.rgb[..., 0], expected, atol=2)


@pytest.mark.parametrize(
    "profile", [b"broken", display_p3()[:200], cmyk_press_of_grey_inks()], ids=["garbage", "truncated", "of CMYK"]
)
def test_unusable_profile_is_ignored(profile):
    image = corners()
    np.testing.assert_array_equal(decode(file_of(image, "PNG", icc_profile=profile)).rgb, np.asarray(image))


def test_palette_transparency_is_alpha():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putpixel((0, 0), 0)
    image.putpixel((1, 0), 2)
    source = decode(file_of(image, "PNG", transparency=bytes((0, 255, 128))))
    np.testing.assert_allclose(source.alpha[0], np.array([0, 128, 255, 255]) / 255)
    np.testing.assert_array_equal(source.rgb[0, 1:3], [(70, 80, 90), (40, 50, 60)])


def test_gif_transparency_is_alpha():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    source = decode(file_of(image, "GIF", transparency=0))
    np.testing.assert_array_equal(source.alpha[0], [0, 1, 1, 1])


@pytest.mark.parametrize("name", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_all_opaque_alpha_is_no_alpha(name):
    assert decode(file_of(corners().convert("RGBA"), name)).alpha is None


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_half_transparent_alpha_is_kept(name):
    pixels = np.full((8, 8, 4), (90, 60, 30, 255), np.uint8)
    pixels[:, 4:, 3] = 128
    options = {"lossless": True} if name == "WEBP" else {}
    source = decode(file_of_array(pixels, name, **options))
    np.testing.assert_allclose(source.alpha, pixels[..., 3] / 255)
    np.testing.assert_array_equal(source.rgb, pixels[..., :3])


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
def test_first_frame_of_an_animation_is_taken(name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    source = decode(file_of(frames[0], name, save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(source.rgb[8, 8], (200, 0, 0), atol=4)


@pytest.mark.parametrize("name", FORMATS)
def test_one_pixel_is_an_image(name):
    source = decode(file_of(Image.new("RGB", (1, 1), (250, 250, 250)), name))
    assert source.rgb.shape == (1, 1, 3)
    np.testing.assert_allclose(source.rgb[0, 0], 250, atol=3)


def test_very_wide_jpeg_has_its_pixels_in_place():
    ramp = np.linspace(0, 255, 5000).round().astype(np.uint8)
    source = decode(file_of_array(np.broadcast_to(ramp, (200, 5000)).copy(), "JPEG", quality=95))
    assert source.rgb.shape == (200, 5000, 3)
    np.testing.assert_allclose(source.rgb[100].astype(np.int16), np.repeat(ramp[:, np.newaxis], 3, axis=1), atol=3)


def test_12_megapixel_jpeg_has_its_pixels_in_place():
    rows, columns = np.mgrid[:3000, :4000]
    pixels = np.dstack([columns * 255 // 3999, rows * 255 // 2999, np.full_like(rows, 77)]).astype(np.uint8)
    source = decode(file_of_array(pixels, "JPEG", quality=95, subsampling=0))
    assert source.rgb.shape == (3000, 4000, 3)
    np.testing.assert_allclose(source.rgb[::250, ::250].astype(np.int16), pixels[::250, ::250], atol=4)


def test_no_bytes_are_an_empty_image():
    with pytest.raises(ImageEmptyError):
        decode(b"")


@pytest.mark.parametrize(
    ("data", "named"),
    [(b"hello, this is no image", None), (b"%PDF-1.7", "PDF"), (b"<svg xmlns=", "SVG"), (b"\0\0\0\x18ftypisom", None)],
)
def test_other_files_are_unsupported(data, named):
    with pytest.raises(UnsupportedFormatError) as caught:
        decode(data + b"\0" * 100)
    assert caught.value.metadata.get("format") == named


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_reader_names_the_extra(brand, monkeypatch):
    monkeypatch.setattr(formats, "HEIF_IS_READABLE", False)
    with pytest.raises(UnsupportedFormatError, match=r"cutstream-server\[heif\]") as caught:
        decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + b"\0" * 64)
    assert caught.value.metadata == {"format": "HEIF", "extra": "heif"}


def test_eps_is_never_opened():
    with pytest.raises(UnsupportedFormatError):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_limit_on_pixels_is_checked_before_the_pixels_are_read():
    header = struct.pack(">IIBBBBB", 5000, 5000, 8, 2, 0, 0, 0)
    no_pixels = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLargeError) as caught:
        decode_image(no_pixels, max_pixels=24_999_999)
    assert caught.value.metadata == {"limit": "24999999", "measured": "25000000", "unit": "pixels"}


def test_image_of_just_the_limit_is_read():
    assert decode_image(file_of(corners(), "PNG"), max_pixels=48 * 32).width == 48


def test_no_limit_goes_beyond_the_ceiling():
    header = struct.pack(">IIBBBBB", 2**16, 2**16, 1, 0, 0, 0, 0)
    absurd = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLargeError) as caught:
        decode_image(absurd, max_pixels=2**40)
    assert caught.value.metadata["limit"] == str(MAX_PIXELS_CEILING)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_header_of_no_pixels_is_undecodable(size):
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    with pytest.raises(ImageUndecodableError):
        decode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_truncated_file_is_undecodable(name, share):
    data = file_of(noise(), name)
    with pytest.raises(ImageUndecodableError) as caught:
        decode(data[: int(len(data) * share)])
    assert caught.value.metadata == {"format": name}


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_without_its_end_is_undecodable(progressive):
    data = file_of(noise(), "JPEG", progressive=progressive)
    with pytest.raises(ImageUndecodableError):
        decode(data[:-40])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm():
    data = file_of(corners(), "JPEG")
    np.testing.assert_array_equal(decode(data + b"a video, say").rgb, decode(data).rgb)


def test_cause_of_an_undecodable_image_is_kept():
    with pytest.raises(ImageUndecodableError) as caught:
        decode(file_of(noise(), "PNG")[:500])
    assert isinstance(caught.value.__cause__, OSError)


def test_compressed_text_that_expands_a_thousandfold_is_undecodable():
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 80_000_000))
    with pytest.raises(ImageUndecodableError):
        decode(png(random_16(3).astype(np.uint8), 2, 8, bomb))


def test_png_chunk_that_claims_two_gigabytes_takes_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    claim = struct.pack(">I", 0x7FFFFFF0) + b"IDAT" + zlib.compress(bytes(range(200)))
    with pytest.raises(ImageUndecodableError):
        decode(b"\x89PNG\r\n\x1a\n" + header + claim[:50])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def samples() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    image = corners()
    return {
        "JPEG": file_of(image, "JPEG", exif=exif, icc_profile=display_p3()),
        "progressive JPEG": file_of(image, "JPEG", progressive=True),
        "CMYK JPEG": file_of(image.convert("CMYK"), "JPEG"),
        "PNG": file_of(image.convert("RGBA"), "PNG", exif=exif, icc_profile=display_p3()),
        "16-bit PNG": png(random_16(4), 6, 16),
        "palette PNG": file_of(image.convert("P"), "PNG"),
        "WebP": file_of(image, "WEBP", exif=exif),
        "lossless WebP": file_of(image.convert("RGBA"), "WEBP", lossless=True),
        "AVIF": file_of(image, "AVIF", exif=exif),
        "TIFF": file_of(image, "TIFF", tiffinfo={ORIENTATION_TAG: 6}),
        "16-bit TIFF": tiff(random_16(3), photometric="rgb"),
        "LZW TIFF": file_of(image, "TIFF", compression="tiff_lzw"),
        "BMP": file_of(image, "BMP"),
        "GIF": file_of(image, "GIF"),
    }


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Overwrite, remove or insert some bytes, half of the time among the first 64."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(min(64, len(result)) if chance.random() < 0.5 else len(result))
        kind = chance.random()
        if kind < 0.8:
            result[place] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif kind < 0.9:
            del result[place : place + 8]
        else:
            result[place:place] = chance.randbytes(8)
    return bytes(result)


@pytest.mark.parametrize(("name", "data"), samples().items(), ids=samples())
def test_mutated_file_gives_an_image_within_the_limit_or_an_error_of_ours(name, data):
    chance = random.Random(name)
    outcomes = set()
    for _ in range(150):
        try:
            source = decode_image(mutated(data, chance), max_pixels=10_000)
            assert source.width * source.height <= 10_000
            outcomes.add("image")
        except CutstreamError as error:
            outcomes.add(error.reason)
    assert outcomes >= {"image", "IMAGE_UNDECODABLE"}


@given(st.sampled_from([data[:12] for data in samples().values()]), st.binary(max_size=200))
def test_any_bytes_behind_a_signature_give_an_error_of_ours(start, rest):
    with pytest.raises(CutstreamError):
        decode(start + rest)
