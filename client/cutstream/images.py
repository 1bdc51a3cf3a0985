"""What goes in: the kinds of images that the client takes, and their encoded bytes."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cutstream.extras import import_pillow
from cutstream.options import Options

if TYPE_CHECKING:
    import numpy
    import PIL.Image

ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | numpy.ndarray[Any, Any]"
)
"""A path, encoded bytes (sent as they are), a PIL image, or a uint8 array of shape (H, W, 3) RGB or (H, W, 4) RGBA."""

MAX_ID_BYTES = 256
# Network time is bought with encoder time: level 1 is the fastest level that still compresses.
_PNG_LEVEL = 1
_PNG_MODES = frozenset({"1", "L", "LA", "P", "I;16", "RGB", "RGBA"})


@dataclass(frozen=True)
class StreamImage:
    """One image of a stream with settings of its own.

    Example:
        >>> item = StreamImage("cat.jpg", image_id="cat", options={"output_format": "webp"})
    """

    image: ImageInput
    image_id: str = ""
    """Echoed in the result and in the server's logs: at most 256 bytes of UTF-8. Empty: see `Client.stream`."""
    options: Options = field(default_factory=Options)
    """Options of this image alone; they win over the stream's, field by field."""


StreamInput: TypeAlias = "ImageInput | tuple[str, ImageInput] | StreamImage"
"""An image of a stream: alone, as (image_id, image), or with options of its own."""


def as_stream_image(item: StreamInput) -> StreamImage:
    """The item in its full form; ValueError when its id is too long."""
    if isinstance(item, StreamImage):
        image = item
    elif isinstance(item, tuple):
        image_id, source = item
        image = StreamImage(source, image_id)
    else:
        image = StreamImage(item)
    if len(image.image_id.encode()) > MAX_ID_BYTES:
        raise ValueError(f"image_id is longer than {MAX_ID_BYTES} bytes: {image.image_id[:40]!r}...")
    return image


def default_id(image: ImageInput, number: int) -> str:
    """The id of an image that came without: its path where that fits, else its number in the stream."""
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if 0 < len(os.fsencode(path)) <= MAX_ID_BYTES and path.isprintable():
            return path
    return str(number)


def encoded(image: ImageInput) -> bytes:
    """The encoded bytes of an image: files and bytes as they are, pixels as fast lossless PNG.

    Raises:
        OSError: the file cannot be read.
        ImportError: pixels need Pillow.
        TypeError, ValueError: nothing that can be an image; float and other non-uint8 arrays among them.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    # Whoever holds such an object has imported its module already, so nothing is imported to find out.
    if "PIL.Image" in sys.modules and isinstance(image, sys.modules["PIL.Image"].Image):
        return _encoded_pillow(image)
    if "numpy" in sys.modules and isinstance(image, sys.modules["numpy"].ndarray):
        return _encoded_array(image)
    raise TypeError(f"an image is a path, bytes, a PIL image or a numpy array, not {type(image).__name__}")


def _encoded_array(array: numpy.ndarray[Any, Any]) -> bytes:
    if array.dtype != "uint8" or array.shape[2:] not in {(3,), (4,)}:
        raise ValueError(
            f"an array must be uint8 of shape (H, W, 3) or (H, W, 4), not {array.dtype} of shape {array.shape}"
        )
    return _encoded_pillow(import_pillow().fromarray(array))


def _encoded_pillow(image: PIL.Image.Image) -> bytes:
    """PNG with the image's colour profile and orientation; CMYK, which PNG lacks, as TIFF."""
    if image.mode in {"F", "I"}:
        raise ValueError(f"the range of a PIL image of mode {image.mode!r} is not known: convert it to 8 bits first")
    buffer = io.BytesIO()
    exif = image.getexif()
    settings: dict[str, Any] = {"exif": exif.tobytes()} if exif else {}
    if image.mode == "CMYK":
        image.save(buffer, format="TIFF", icc_profile=image.info.get("icc_profile"), **settings)
        return buffer.getvalue()
    if image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if image.mode in {"RGBa", "La", "PA"} else "RGB")
    image.save(buffer, format="PNG", compress_level=_PNG_LEVEL, **settings)
    return buffer.getvalue()
