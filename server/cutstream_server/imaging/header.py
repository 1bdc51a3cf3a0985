"""What an image file claims to be, read from its bytes alone, and the limits that the claims must keep.

No decoding library sees a file before this: some of them allocate a canvas, inflate metadata or walk a million parts
while they open it. What a header hides from here (a frame within the frame, a tile larger than the image) meets the
bounds of memory and time under which the decoders run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cutstream_server.errors import ImageEmptyError, ImageTooLargeError, ImageUndecodableError
from cutstream_server.imaging.formats import recognise_format
from cutstream_server.imaging.header_fields import READERS, Fields, TooManyError

# Each part (a PNG chunk, a JPEG segment, a GIF block) costs the decoders' Python some microseconds: a file may have so
# many of them, and one more for so many bytes. Writers of PNG split pixels into parts of 8192 bytes and more.
PARTS_ALWAYS: Final = 8192
BYTES_PER_PART: Final = 2048
# The blocks of GIF hold 255 bytes at most.
GIF_BYTES_PER_PART: Final = 128
# Every scan of a progressive JPEG goes over the whole picture: encoders write about 10, and a file of a few kB can hold
# hundreds.
MAX_SCANS: Final = 100


@dataclass(frozen=True)
class ImageLimits:
    """What is accepted.

    Attributes:
        max_pixels: most pixels of the picture, and of the canvas that an animation is drawn on.
        max_side: longest width or height in pixels.
        max_frames: most pictures in one file, though only the first one is used.
    """

    max_pixels: int
    max_side: int
    max_frames: int


@dataclass(frozen=True)
class Header:
    """What a file claims.

    Attributes:
        format: its format, such as "JPEG".
        width: pixels of the picture as it is stored, not yet upright; the largest claim where a file makes several.
        height: likewise.
        frames: pictures in the file, at least 1.
    """

    format: str
    width: int
    height: int
    frames: int

    @property
    def pixels(self) -> int:
        """Pixels of the picture."""
        return self.width * self.height


def read_header(data: bytes, limits: ImageLimits) -> Header:
    """Read a file's claims and compare them with the limits.

    Args:
        data: the whole file.
        limits: what is accepted.

    Raises:
        ImageEmptyError: no bytes.
        UnsupportedFormatError: no image, or one of a format that is not read.
        ImageTooLargeError: a limit is exceeded; the metadata tell which by its `unit`: "pixels", "pixels_per_side",
            "frames", "parts" or "scans".
        ImageUndecodableError: the file ends before it says its size, or says none.
    """
    if not data:
        raise ImageEmptyError("the image has no bytes")
    name = recognise_format(data)
    bytes_per_part = GIF_BYTES_PER_PART if name == "GIF" else BYTES_PER_PART
    most = Fields(frames=limits.max_frames, parts=PARTS_ALWAYS + len(data) // bytes_per_part, scans=MAX_SCANS)
    try:
        fields = READERS[name](data, most)
    except TooManyError as error:
        raise _too_large(
            f"the {name} image has too many {error.unit}", error.limit, f"more than {error.limit}", error.unit
        ) from error
    # A number that stands beyond the end, or is none.
    except (IndexError, ValueError) as error:
        raise ImageUndecodableError(f"the {name} image is truncated or damaged", format=name) from error
    header = Header(name, fields.width, fields.height, max(1, fields.frames))
    _check(header, limits)
    return header


def _check(header: Header, limits: ImageLimits) -> None:
    if header.pixels == 0:
        raise ImageUndecodableError(f"the {header.format} image has no pixels", format=header.format)
    if header.pixels > limits.max_pixels:
        text = f"the image has {header.width} x {header.height} pixels"
        raise _too_large(text, limits.max_pixels, header.pixels, "pixels")
    longest = max(header.width, header.height)
    if longest > limits.max_side:
        raise _too_large(f"a side of the image has {longest} pixels", limits.max_side, longest, "pixels_per_side")
    if header.frames > limits.max_frames:
        raise _too_large(f"the file has {header.frames} frames", limits.max_frames, header.frames, "frames")


def _too_large(text: str, limit: int, measured: object, unit: str) -> ImageTooLargeError:
    return ImageTooLargeError(f"{text}; the limit is {limit} {unit}", limit=limit, measured=measured, unit=unit)
