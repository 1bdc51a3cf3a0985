"""Size and number of frames of each format, found by walking a file's parts without decoding any of them.

Sources: PNG (W3C Recommendation, third edition), JPEG (ITU-T T.81), WebP (RFC 9649), GIF89a, TIFF 6.0 and BigTIFF, BMP
(Microsoft's BITMAPINFOHEADER), ISO base media files (ISO/IEC 14496-12, 23008-12).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

ByteOrder = Literal["big", "little"]

PNG_SIGNATURE_BYTES: Final = 8
PNG_FRAME_BYTES: Final = 12
# A JPEG marker but no stuffed byte, restart or fill: what ends a run of entropy-coded data.
JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
GIF_EXTENSION, GIF_IMAGE = 0x21, 0x2C
TIFF_WIDTH, TIFF_LENGTH = 256, 257
TIFF_SHORT: Final = 3
BMP_CORE_HEADER_BYTES: Final = 12
MEDIA_CONTAINERS: Final = frozenset({b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl"})


@dataclass
class Fields:
    """What is found in a file, and, in another one, the most that may be found.

    Attributes:
        width: pixels; the largest claim where there are several.
        height: likewise.
        frames: pictures.
        parts: chunks, segments, blocks, boxes or directories.
        scans: passes of a progressive JPEG over the picture.
    """

    width: int = 0
    height: int = 0
    frames: int = 0
    parts: int = 0
    scans: int = 0

    def enlarge(self, width: int, height: int) -> None:
        """Take a claim of a size."""
        self.width, self.height = max(self.width, width), max(self.height, height)

    def count(self, unit: Literal["frames", "parts", "scans"], most: Fields) -> None:
        """Count one more and stop the walk when that is too many."""
        number, limit = getattr(self, unit) + 1, getattr(most, unit)
        setattr(self, unit, number)
        if number > limit:
            raise TooManyError(unit, limit)


class TooManyError(Exception):
    """The walk over a file met more of something than it may; attributes: `unit`, `limit`."""

    def __init__(self, unit: str, limit: int) -> None:
        super().__init__(unit)
        self.unit = unit
        self.limit = limit


def _number(data: bytes, at: int, size: int, order: ByteOrder) -> int:
    """Read an unsigned number of `size` bytes; IndexError beyond the end."""
    if at < 0 or at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], order)


def _png(data: bytes, most: Fields) -> Fields:
    fields = Fields(_number(data, 16, 4, "big"), _number(data, 20, 4, "big"))
    at = PNG_SIGNATURE_BYTES
    while at + PNG_FRAME_BYTES <= len(data):
        kind = data[at + 4 : at + 8]
        fields.count("parts", most)
        if kind == b"acTL":  # An animated PNG states the number of its frames.
            fields.frames = _number(data, at + 8, 4, "big")
        at += PNG_FRAME_BYTES + _number(data, at, 4, "big")
        if kind == b"IEND":
            break
    return fields


def _jpeg(data: bytes, most: Fields) -> Fields:
    """Walk to the first scan, and through all of them where each one goes over the whole picture."""
    fields, progressive, at = Fields(), False, 0
    while found := JPEG_MARKER.search(data, at):
        at, marker = found.start() + 2, data[found.start() + 1]
        if marker in {0xD8, 0x01}:
            continue
        if marker == JPEG_END:
            break
        fields.count("parts", most)
        if marker in JPEG_FRAMES:
            progressive |= marker in JPEG_PROGRESSIVE
            fields.enlarge(_number(data, at + 5, 2, "big"), _number(data, at + 3, 2, "big"))
        if marker == JPEG_SCAN:
            fields.count("scans", most)
            if not progressive:
                break
        at += _number(data, at, 2, "big")
    return fields


def _webp(data: bytes, most: Fields) -> Fields:
    fields, at = Fields(), 12
    while at + 8 <= len(data):
        kind, body = data[at : at + 4], at + 8
        fields.count("parts", most)
        if kind == b"VP8X":
            fields.enlarge(_number(data, body + 4, 3, "little") + 1, _number(data, body + 7, 3, "little") + 1)
        elif kind == b"VP8L":
            bits = _number(data, body + 1, 4, "little")
            fields.enlarge((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind == b"VP8 ":
            fields.enlarge(_number(data, body + 6, 2, "little") & 0x3FFF, _number(data, body + 8, 2, "little") & 0x3FFF)
        elif kind == b"ANMF":
            fields.count("frames", most)
        size = _number(data, at + 4, 4, "little")
        at = body + size + size % 2
    return fields


def _gif(data: bytes, most: Fields) -> Fields:
    """Walk all blocks: the first frame may be larger than the screen that the file states, and decoders grow it."""
    fields = Fields(_number(data, 6, 2, "little"), _number(data, 8, 2, "little"))
    at = 13 + _gif_table_bytes(data[10])
    while at < len(data):
        kind = data[at]
        if kind == GIF_IMAGE and at + 10 <= len(data):
            fields.count("frames", most)
            left, top, width, height = (_number(data, at + edge, 2, "little") for edge in (1, 3, 5, 7))
            fields.enlarge(left + width, top + height)
            at += 11 + _gif_table_bytes(data[at + 9])
        elif kind == GIF_EXTENSION:
            at += 2
        else:  # The trailer, or damage, which ends the walk as it ends the decoding.
            break
        while at < len(data) and data[at]:
            fields.count("parts", most)
            at += data[at] + 1
        at += 1
    return fields


def _gif_table_bytes(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes, most: Fields) -> Fields:
    del most  # One picture, one part.
    if _number(data, 14, 4, "little") == BMP_CORE_HEADER_BYTES:
        return Fields(_number(data, 18, 2, "little"), _number(data, 20, 2, "little"))
    height = _number(data, 22, 4, "little")
    # Negative when the rows are stored from the top.
    return Fields(_number(data, 18, 4, "little"), min(height, 2**32 - height))


def _tiff(data: bytes, most: Fields) -> Fields:
    """Walk the chain of directories; the first one is the picture."""
    order: ByteOrder = "little" if data[:2] == b"II" else "big"
    big = _number(data, 2, 2, order) == 43  # noqa: PLR2004 - the version number of BigTIFF
    # Bytes of an offset, of the number of a directory's entries, and of an entry.
    offset, count, entry = (8, 8, 20) if big else (4, 2, 12)
    fields, at = Fields(), _number(data, 8 if big else 4, offset, order)
    while at and fields.frames < most.frames + 1:
        entries = _number(data, at, count, order)
        for start in range(at + count, min(at + count + entries * entry, len(data)), entry):
            fields.count("parts", most)
            tag = _number(data, start, 2, order)
            if tag in {TIFF_WIDTH, TIFF_LENGTH} and not fields.frames:
                short = _number(data, start + 2, 2, order) == TIFF_SHORT
                value = _number(data, start + entry - offset, 2 if short else 4, order)
                fields.enlarge(*((value, 0) if tag == TIFF_WIDTH else (0, value)))
        fields.count("frames", most)
        at += count + entries * entry
        # A chain that breaks off behind the first picture does it no harm.
        at = _number(data, at, offset, order) if at + offset <= len(data) else 0
    return fields


def _media(data: bytes, most: Fields) -> Fields:
    """Walk the boxes of an AVIF or HEIF file: `ispe` sizes a picture, `tkhd` a track and `stsz` counts its frames."""
    fields, pending = Fields(), [(0, len(data))]
    while pending:
        at, end = pending.pop()
        while at + 8 <= end:
            fields.count("parts", most)
            size, kind, body = _number(data, at, 4, "big"), data[at + 4 : at + 8], at + 8
            if size == 1:
                size, body = _number(data, at + 8, 8, "big"), at + 16
            stop = min(at + size, end) if size else end
            if kind == b"ispe":
                fields.enlarge(_number(data, body + 4, 4, "big"), _number(data, body + 8, 4, "big"))
            elif kind == b"tkhd":
                fields.enlarge(_number(data, stop - 8, 2, "big"), _number(data, stop - 4, 2, "big"))
            elif kind == b"stsz":
                fields.frames = max(fields.frames, _number(data, body + 8, 4, "big"))
            elif kind in MEDIA_CONTAINERS:
                pending.append((body + 4 if kind == b"meta" else body, stop))
            at = max(stop, body)
    return fields


READERS: Final[Mapping[str, Callable[[bytes, Fields], Fields]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _media,
    "HEIF": _media,
}
