"""Cutout pixels to the bytes that a client gets: PNG, lossless WebP, or raw samples.

A sample is value * maximum, rounded to the nearest. Colour under an alpha of zero is cleared: what the
cutout hides does not travel in its file.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from zlib_ng import zlib_ng

from cutstream_server.errors import OutputTooLargeError

Floats: TypeAlias = npt.NDArray[np.float32]
# uint8, uint16 or float32, as the sample type says.
Samples: TypeAlias = npt.NDArray[Any]
OutputFormat: TypeAlias = Literal["png", "webp", "raw"]
Channels: TypeAlias = Literal["rgba", "alpha", "rgb"]
SampleType: TypeAlias = Literal["uint8", "uint16", "float32"]
AlphaMode: TypeAlias = Literal["straight", "premultiplied"]

MEDIA_TYPES: Final = {"png": "image/png", "webp": "image/webp", "raw": "application/octet-stream"}
SAMPLE_TYPES_OF_FORMAT: Final = {
    "png": ("uint8", "uint16"),
    "webp": ("uint8",),
    "raw": ("uint8", "uint16", "float32"),
}
# What a sample of 1.0 is stored as, and OpenCV's name of the type; floats are stored as they are.
MAXIMUM_OF_SAMPLE: Final = {"uint8": (255.0, cv2.CV_8U), "uint16": (65535.0, cv2.CV_16U)}
# Run lengths after the average filter: on 518 x 518 cutouts of photos 2 to 8 percent smaller than zlib's own level 1;
# only from level 4 on does its search find more, in 40 ms. By zlib-ng this takes 4 ms, by OpenCV's zlib 9.
FAST_PNG_LEVEL: Final = 1
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# PNG specification (https://www.w3.org/TR/png-3/), 11.2.1 and 9.2; by the number of channels.
PNG_COLOUR_TYPES: Final = {1: 0, 3: 2, 4: 6}
PNG_AVERAGE_FILTER: Final = 3
SEARCHED_PNG: Final = (
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_ALL_FILTERS,
)
# OpenCV takes blue first; by the number of channels.
TO_OPENCV_ORDER: Final = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
# WebP's header holds 14 bits a side.
WEBP_MAX_SIDE: Final = 16383
# Rows that are quantised together, so that a large image costs no second copy of itself in floats.
BAND_ROWS: Final = 64


def encode(
    rgb: Floats,
    alpha: Floats,
    *,
    output_format: OutputFormat = "png",
    channels: Channels = "rgba",
    sample_type: SampleType = "uint8",
    alpha_mode: AlphaMode = "straight",
    background_color: tuple[int, int, int] | None = None,
    png_compression_level: int = FAST_PNG_LEVEL,
) -> bytes:
    """Encode a cutout.

    Args:
        rgb: (H, W, 3) straight colour in 0..1.
        alpha: (H, W) in 0..1.
        output_format: "png", "webp" (lossless) or "raw" (row-major height, width, channel; little-endian).
        channels: "rgba"; "alpha" alone, as grey (three equal channels in WebP, which has no grey); "rgb", which is
            colour over `background_color`.
        sample_type: "png" has "uint8" and "uint16", "webp" has "uint8", "raw" has all.
        alpha_mode: whether the colour of "rgba" is multiplied by alpha; the others have no such choice.
        background_color: red, green, blue of 255 under "rgb"; black when it is not given.
        png_compression_level: 0 stores, 1 is the fast one, up to 9 searches longer for less.

    Raises:
        ValueError: the format has no such sample type.
        OutputTooLargeError: WebP, and a side over 16383 pixels.
    """
    if sample_type not in SAMPLE_TYPES_OF_FORMAT[output_format]:
        raise ValueError(f"{output_format} cannot hold {sample_type} samples")
    samples = _samples(rgb, alpha, channels, sample_type, alpha_mode, background_color or (0, 0, 0))
    if output_format == "png":
        return _png(samples, png_compression_level)
    if output_format == "webp":
        return _webp(np.asarray(samples, np.uint8))
    return samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()


def media_type(output_format: OutputFormat) -> str:
    """Return the media type of what `encode` gives."""
    return MEDIA_TYPES[output_format]


def _samples(
    rgb: Floats,
    alpha: Floats,
    channels: Channels,
    sample_type: SampleType,
    alpha_mode: AlphaMode,
    background_color: tuple[int, int, int],
) -> Samples:
    """Return (H, W, C) samples of the wanted type, computed in bands of rows."""
    height, width = alpha.shape
    count = {"rgba": 4, "alpha": 1, "rgb": 3}[channels]
    background = np.array(background_color, np.float32) / np.float32(255)
    out = np.empty((height, width, count), sample_type)
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        colour, opacity = rgb[rows], alpha[rows, :, np.newaxis]
        if channels == "rgba":
            if alpha_mode == "premultiplied":
                colour = colour * opacity
            out[rows] = _clear_hidden(_quantise(colour, sample_type), _quantise(alpha[rows], sample_type))
        elif channels == "rgb":
            out[rows] = _quantise(colour * opacity + background * (np.float32(1) - opacity), sample_type)
        else:
            out[rows] = _quantise(opacity, sample_type)
    return out


def _quantise(values: npt.NDArray[Any], sample_type: SampleType) -> Samples:
    if sample_type == "float32":
        return values
    maximum, depth = MAXIMUM_OF_SAMPLE[sample_type]
    # One channel for OpenCV: with three it takes the factor for the first alone.
    plane = values.reshape(len(values), -1)
    samples: Samples
    if sample_type == "uint8":
        samples = cv2.convertScaleAbs(plane, alpha=maximum)  # half the time of `multiply`, and only for 8 bits
    else:
        samples = cv2.multiply(plane, maximum, dtype=depth)  # type: ignore[call-overload] # no number in its stubs
    return samples.reshape(values.shape)


def _clear_hidden(colour: Samples, opacity: Samples) -> Samples:
    """Return (H, W, 4) with colour 0 where the stored opacity is 0."""
    return cv2.merge([cv2.copyTo(colour, (opacity > 0).view(np.uint8)), opacity])


def _png(samples: Samples, level: int) -> bytes:
    if level == FAST_PNG_LEVEL:
        return _fast_png(samples)
    conversion = TO_OPENCV_ORDER.get(samples.shape[2])
    if conversion is not None:
        samples = cv2.cvtColor(samples, conversion)
    written, data = cv2.imencode(".png", samples, [cv2.IMWRITE_PNG_COMPRESSION, level, *SEARCHED_PNG])
    if not written:
        raise RuntimeError(f"OpenCV wrote no PNG of shape {samples.shape}")
    return data.tobytes()


def _fast_png(samples: Samples) -> bytes:
    height, width, channels = samples.shape
    depth = 8 * samples.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, PNG_COLOUR_TYPES[channels], 0, 0, 0)
    packer = zlib_ng.compressobj(FAST_PNG_LEVEL, strategy=zlib_ng.Z_RLE)
    above = np.zeros((1, width, channels), samples.dtype)
    packed = []
    for top in range(0, height, BAND_ROWS):
        rows = samples[top : top + BAND_ROWS]
        packed.append(packer.compress(_filter_by_average(np.concatenate([above, rows]))))
        above = rows[-1:]
    packed.append(packer.flush())
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(packed)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind)))


def _filter_by_average(rows: Samples) -> npt.NDArray[np.uint8]:
    """Return all (n, width, channels) rows but the first as PNG stores them: a filter's number, then filtered bytes.

    A byte is stored as its difference to the mean, rounded down, of the one a pixel before it and the one above.
    """
    big_endian = rows.astype(rows.dtype.newbyteorder(">"), copy=False)
    pixel = rows.shape[2] * rows.itemsize
    plain = np.ascontiguousarray(big_endian).view(np.uint8).reshape(len(rows), -1)
    before = np.zeros((len(rows) - 1, plain.shape[1]), np.uint8)
    before[:, pixel:] = plain[1:, :-pixel]
    above = plain[:-1]
    stored = np.empty((len(rows) - 1, 1 + plain.shape[1]), np.uint8)
    stored[:, 0] = PNG_AVERAGE_FILTER
    # The mean without a ninth bit.
    np.subtract(plain[1:], (before & above) + ((before ^ above) >> 1), out=stored[:, 1:])
    return stored


def _webp(samples: npt.NDArray[np.uint8]) -> bytes:
    longest = max(samples.shape[:2])
    if longest > WEBP_MAX_SIDE:
        raise OutputTooLargeError(
            f"WebP holds at most {WEBP_MAX_SIDE} pixels a side, the cutout has {longest}",
            limit=WEBP_MAX_SIDE,
            measured=longest,
            unit="pixels",
        )
    image = Image.fromarray(samples if samples.shape[2] > 1 else samples[..., 0])
    buffer = io.BytesIO()
    # Without `exact` the encoder is free to change colour under zero alpha, which is cleared on purpose.
    image.save(buffer, "WEBP", lossless=True, exact=True, method=0, quality=0)
    return buffer.getvalue()
