"""A small file of every kind that the service reads, and the pieces that tests and fuzzing make damaged ones of."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageCms

SEED: Final = 20261123
WIDTH, HEIGHT = 67, 45
# The tiny network's alpha is the red channel: a disc makes cutouts of these pictures.
DISC_RADIUS_PX: Final = 15
FRAMES: Final = 3


def picture(width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """Draw a disc in the red channel over noise in the others: (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    radius = DISC_RADIUS_PX * min(width / WIDTH, height / HEIGHT)
    disc = np.hypot(x - width / 2, y - height / 2) < radius
    noise = np.random.default_rng(SEED).integers(0, 256, (height, width, 2), dtype=np.uint8)
    return np.dstack([np.where(disc, 255, 0).astype(np.uint8), noise])


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    """Write a picture in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Write one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int, colour_type: int) -> bytes:
    """Write the signature and IHDR of a PNG file."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def small_files() -> dict[str, bytes]:
    """Give a small valid file of each kind, by name: "FORMAT kind"."""
    rgb = Image.fromarray(picture())
    rgba = rgb.copy()
    rgba.putalpha(rgb.getchannel("R"))
    grey = rgb.convert("L")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274] = 6
    frames = [rgb.rotate(90 * turn) for turn in range(FRAMES)]
    more: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    deep = picture().astype(np.uint16) * np.uint16(257)
    return {
        "JPEG plain": encoded(rgb, "JPEG"),
        "JPEG progressive": encoded(rgb, "JPEG", progressive=True, quality=95, subsampling=0),
        "JPEG grey": encoded(grey, "JPEG"),
        "JPEG cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "JPEG turned": encoded(rgb, "JPEG", exif=exif),
        "JPEG profile": encoded(rgb, "JPEG", icc_profile=profile),
        "JPEG restarts": encoded(rgb, "JPEG", restart_marker_rows=1),
        "PNG rgb": encoded(rgb, "PNG"),
        "PNG rgba": encoded(rgba, "PNG", exif=exif),
        "PNG palette": encoded(rgb.quantize(17), "PNG", transparency=3),
        "PNG bilevel": encoded(grey.convert("1"), "PNG"),
        "PNG grey 16": encoded(Image.fromarray(deep[..., 0]), "PNG"),
        "PNG rgb 16": _png_16(deep),
        "PNG animated": encoded(frames[0], "PNG", **more),
        "WEBP lossy": encoded(rgb, "WEBP", quality=80),
        "WEBP lossless": encoded(rgba, "WEBP", lossless=True, icc_profile=profile),
        "WEBP animated": encoded(frames[0], "WEBP", **more),
        "AVIF plain": encoded(rgb, "AVIF", speed=10),
        "AVIF alpha": encoded(rgba, "AVIF", speed=10, exif=exif),
        "AVIF animated": encoded(frames[0], "AVIF", speed=10, **more),
        "TIFF plain": encoded(rgb, "TIFF"),
        "TIFF lzw": encoded(rgba, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encoded(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF packbits": encoded(grey, "TIFF", compression="packbits"),
        "TIFF jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "TIFF group4": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "TIFF pages": encoded(frames[0], "TIFF", **more),
        "TIFF tiles 16": _tiff(deep, tile=(16, 16), photometric="rgb"),
        "TIFF planes": _tiff(picture().transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "TIFF big": _tiff(picture(), bigtiff=True, photometric="rgb"),
        "BMP plain": encoded(rgb, "BMP"),
        "BMP palette": encoded(rgb.quantize(17), "BMP"),
        "GIF plain": encoded(rgb, "GIF"),
        "GIF animated": encoded(frames[0], "GIF", **more),
    }


def _png_16(samples: npt.NDArray[np.uint16]) -> bytes:
    """Write 16-bit colour, which Pillow does not."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return (
        png_header(width, height, 16, 2)
        + png_chunk(b"tRNS", bytes(6))
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def _tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()
