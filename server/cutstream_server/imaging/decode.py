"""Bytes of an image file to upright sRGB pixels and alpha; every fault of the bytes becomes one of our errors.

Pillow reads the header, so that size and layout are known before anything is decoded. libjpeg-turbo decodes plain JPEG
(2048 x 1536 in 13 ms, OpenCV takes 14 and Pillow 28), OpenCV what else is plain (lossless WebP 58 against 107) and the
16-bit colour that Pillow would cut to 8 bits; Pillow decodes the rest, and whatever OpenCV declines.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from cutstream_server.errors import (
    CutstreamError,
    ImageEmptyError,
    ImageTooLargeError,
    ImageUndecodableError,
    UnsupportedFormatError,
)
from cutstream_server.imaging.color import image_to_srgb, pixels_to_srgb
from cutstream_server.imaging.formats import recognise_format

Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Allocate: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]

# The most pixels that Pillow opens at all, whatever `max_pixels` says: some of its readers allocate a canvas while they
# open a file, before its size can be compared with a limit of ours.
MAX_PIXELS_CEILING: Final = 1 << 27
# Pillow warns above this number and raises above twice of it. It is global to the process: set once, here.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS_CEILING // 2
# Pillow's own 64 MiB of text, inflated from 64 kB, cost a quarter of a second; nobody reads it here.
PngImagePlugin.MAX_TEXT_MEMORY = 16 << 20
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Register every reader now: else the first image of a less common format pays for it, in whatever thread that is.
Image.init()

# Cameras put a second picture behind the first; Pillow calls such a JPEG by its own name.
JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
# Only for JPEG does OpenCV honour both; elsewhere "as stored" is what leaves 16 bits, alpha and orientation alone.
JPEG_FLAGS: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# OpenCV stores blue first; by the number of channels.
ALPHA_CHANNELS: Final = 4
TO_RGB: Final = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, ALPHA_CHANNELS: cv2.COLOR_BGRA2RGB}
# A PNG file is its signature and chunks of a length, a kind, data and a checksum.
PNG_FIRST_CHUNK_AT: Final = 8
PNG_CHUNK_FRAME_BYTES: Final = 12
# Where a PNG file states its bits a sample and its colour type: inside IHDR, always the first chunk.
PNG_BIT_DEPTH_AT: Final = 24
PNG_COLOUR_TYPE_AT: Final = 25
PNG_GREY, PNG_RGB, PNG_PALETTE = 0, 2, 3
# Values of the TIFF fields below (TIFF 6.0, sections 4 and 18).
TIFF_WHITE_IS_ZERO: Final = 0
TIFF_RGB: Final = 2
TIFF_INTERLEAVED: Final = 1
TIFF_UNASSOCIATED_ALPHA: Final = 2


@dataclass(frozen=True)
class SourceImage:
    """A decoded image: upright, straight (not premultiplied) sRGB.

    Attributes:
        rgb: (H, W, 3) uint8, or uint16 where the file has 16 bits a sample and needs no colour conversion.
        alpha: (H, W) float32 in 0..1; None when the file has no transparency or no pixel uses it.
        format: the file's format, such as "JPEG".
        exif_orientation: 1 to 8 as the file states it; `rgb` and `alpha` are turned already.
    """

    rgb: Pixels
    alpha: npt.NDArray[np.float32] | None
    format: str
    exif_orientation: int

    @property
    def width(self) -> int:
        """Width of the upright image in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height of the upright image in pixels."""
        return int(self.rgb.shape[0])


def decode_image(data: bytes, *, max_pixels: int, allocate: Allocate = np.empty) -> SourceImage:
    """Decode the first frame of a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or (with the extra `heif`) HEIC file.

    The EXIF orientation is applied and an embedded ICC profile is converted to sRGB.

    Args:
        data: the whole file.
        max_pixels: the most pixels of the image, compared with the header before anything is decoded; values above
            `MAX_PIXELS_CEILING` have no effect beyond it.
        allocate: gives memory for the colours, so that they need not be copied there; they may come elsewhere all the
            same. Only the last array that it gave is in use.

    Raises:
        ImageEmptyError: no bytes.
        UnsupportedFormatError: no image, or one of a format or kind that is not read.
        ImageTooLargeError: more pixels than `max_pixels`.
        ImageUndecodableError: truncated, damaged or inconsistent.
    """
    if not data:
        raise ImageEmptyError("the image has no bytes")
    name = recognise_format(data)
    try:
        with Image.open(io.BytesIO(data), formats=(name,)) as image:
            _check_size(image, max_pixels)
            return _decode(image, data, name, allocate)
    except CutstreamError:
        raise
    except Image.DecompressionBombError as error:
        measured = f"more than {MAX_PIXELS_CEILING}"
        raise _too_large(min(max_pixels, MAX_PIXELS_CEILING), measured) from error
    # Readers raise whatever damaged bytes lead them to: OSError, SyntaxError, struct.error, KeyError, zlib.error, ...
    except Exception as error:
        raise ImageUndecodableError(f"the {name} image is truncated, damaged or inconsistent", format=name) from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise _too_large(max_pixels, pixels)
    if pixels == 0:
        raise ImageUndecodableError(f"the {image.format} image has no pixels", format=image.format)


def _too_large(limit: int, measured: object) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"the image has {measured} pixels, the limit is {limit}", limit=limit, measured=measured, unit="pixels"
    )


def _decode(image: Image.Image, data: bytes, name: str, allocate: Allocate) -> SourceImage:
    orientation = _exif_orientation(image, data)
    plain = _read_fast(image, data, allocate) if _is_plain(image, data) else None
    if plain is not None:
        rgb, alpha = plain
        rgb = pixels_to_srgb(rgb, image.info.get("icc_profile"), grey=image.mode == "L")
    else:
        rgb, alpha = _read_grey_16(image) if image.mode.startswith("I;16") else _read_with_pillow(image)
    # Both decoders turn TIFF themselves.
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        rgb, alpha = _turn_upright(rgb, orientation), None if alpha is None else _turn_upright(alpha, orientation)
    return SourceImage(rgb, _transparency(alpha), name, orientation)


def _exif_orientation(image: Image.Image, data: bytes) -> int:
    """Return the file's orientation, 1 where it states none or an impossible one."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(ExifTags.Base.Orientation)
    else:
        if image.format == "PNG" and "exif" not in image.info and b"eXIf" in data:
            image.load()  # the chunk stands behind the pixels
        try:
            # The base method: PNG's own decodes the whole image to look for a chunk behind the pixels.
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        except Exception:  # noqa: BLE001 - damaged EXIF raises anything, and does not damage the picture
            return 1
    return value if isinstance(value, int) and 1 <= value <= len(TURNS) + 1 else 1


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Tell whether OpenCV reads the file as it is meant: the same pixels as Pillow, or more bits of them."""
    if image.format in JPEG_FORMATS:
        return image.mode in {"L", "RGB"}
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _is_deep_rgb_tiff(image)
    if getattr(image, "is_animated", False):
        return False
    return image.format == "WEBP" or (image.format == "PNG" and _is_plain_png(image, data))


def _is_plain_png(image: Image.Image, data: bytes) -> bool:
    depth, colour_type = data[PNG_BIT_DEPTH_AT], data[PNG_COLOUR_TYPE_AT]
    # OpenCV makes alpha of a transparent colour only where Pillow could not: for 16-bit RGB.
    if colour_type == PNG_PALETTE or ("transparency" in image.info and (depth, colour_type) != (16, PNG_RGB)):
        return False
    # Pillow reads 16-bit grey as it is, and expands fewer bits.
    return (depth == 8 or colour_type != PNG_GREY) and _holds_its_chunks(data)  # noqa: PLR2004


def _holds_its_chunks(png: bytes) -> bool:
    """Tell whether every chunk of a PNG ends inside the file, up to its IEND.

    OpenCV allocates what a chunk's header states before it reads on: 70 bytes can make it take 2 GB.
    """
    start = PNG_FIRST_CHUNK_AT
    while start + PNG_CHUNK_FRAME_BYTES <= len(png):
        is_last = png[start + 4 : start + 8] == b"IEND"
        start += PNG_CHUNK_FRAME_BYTES + int.from_bytes(png[start : start + 4], "big")
        if is_last:
            return start <= len(png)
    return False


def _is_deep_rgb_tiff(image: TiffImagePlugin.TiffImageFile) -> bool:
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE)
    straight_alpha = tags.get(TiffImagePlugin.EXTRASAMPLES) == (TIFF_UNASSOCIATED_ALPHA,)
    return (
        tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == TIFF_RGB
        and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, TIFF_INTERLEAVED) == TIFF_INTERLEAVED
        and (bits == (16, 16, 16) or (bits == (16, 16, 16, 16) and straight_alpha))
    )


def _is_deep_planar_tiff(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Tell whether the file holds its channels one after the other with 16 bits, which both decoders get wrong."""
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ())
    planes = image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION, TIFF_INTERLEAVED)
    return bool(planes != TIFF_INTERLEAVED and len(bits) > 1 and max(bits) > 8)  # noqa: PLR2004


def _read_fast(image: Image.Image, data: bytes, allocate: Allocate) -> tuple[Pixels, Pixels | None] | None:
    """Return colour (H, W, 3) and alpha (H, W) or None; nothing at all when neither fast reader takes the file."""
    if image.format in JPEG_FORMATS:
        rgb = _read_jpeg(data, allocate((image.height, image.width, 3), np.dtype(np.uint8)))
        return None if rgb is None else (_of_size(rgb, image), None)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    pixels = _of_size(pixels, image)
    channels = pixels.shape[2] if pixels.ndim > 2 else 1  # noqa: PLR2004
    alpha = _integers(cv2.extractChannel(pixels, 3)) if channels == ALPHA_CHANNELS else None
    rgb = allocate((image.height, image.width, 3), pixels.dtype)
    return _integers(cv2.cvtColor(pixels, TO_RGB[channels], dst=rgb)), alpha


def _read_jpeg(data: bytes, rgb: npt.NDArray[Any]) -> Any:
    """Return the colours, in `rgb` if they are as many and the file is without fault; None when nobody can read it."""
    try:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=rgb)
    except ValueError:  # Damaged, or odd in a way that OpenCV puts up with.
        return cv2.imdecode(np.frombuffer(data, np.uint8), JPEG_FLAGS)


def _of_size(pixels: npt.NDArray[Any], image: Image.Image) -> Pixels:
    if pixels.shape[:2] != (image.height, image.width):
        raise ImageUndecodableError("the image's headers contradict each other", format=image.format)
    return _integers(pixels)


def _read_with_pillow(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return 8-bit colour (H, W, 3) in sRGB and alpha (H, W) or None."""
    if image.mode in {"I", "F"}:
        raise UnsupportedFormatError(
            f"{image.format} images with 32-bit or floating-point samples are not read", format=image.format
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_deep_planar_tiff(image):
        raise UnsupportedFormatError("TIFF images of separate 16-bit planes are not read", format="TIFF")
    alpha = None
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = _integers(np.asarray(image.getchannel("A")))
    return _integers(np.asarray(image_to_srgb(image, profile))), alpha


def _read_grey_16(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return 16-bit grey as colour (H, W, 3), and alpha (H, W) where the file names a transparent value."""
    grey = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency")
    alpha = (
        None if transparent is None else np.where(grey == transparent, 0, np.iinfo(grey.dtype).max).astype(np.uint16)
    )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) != (16,):
            raise UnsupportedFormatError("TIFF images with 12-bit samples are not read", format="TIFF")
        # Pillow turns WhiteIsZero over for 8 bits and not for 16.
        if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == TIFF_WHITE_IS_ZERO:
            grey = ~grey
    rgb = _integers(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
    return pixels_to_srgb(rgb, image.info.get("icc_profile"), grey=True), alpha


def _integers(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise TypeError(f"samples of type {pixels.dtype}")
    return pixels


def _transparency(alpha: Pixels | None) -> npt.NDArray[np.float32] | None:
    """Return alpha in 0..1; None when every pixel is opaque, for such a channel says nothing."""
    if alpha is None:
        return None
    opaque = np.iinfo(alpha.dtype).max
    return None if alpha.min() == opaque else alpha.astype(np.float32) / np.float32(opaque)


# What makes an image upright, by its EXIF orientation from 2 to 8.
TURNS: Final[tuple[Callable[[Pixels], Any], ...]] = (
    lambda pixels: cv2.flip(pixels, 1),
    lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    lambda pixels: cv2.flip(pixels, 0),
    cv2.transpose,
    lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
)


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    return pixels if orientation == 1 else _integers(TURNS[orientation - 2](pixels))
