"""Which format a file has, by its first bytes."""

from __future__ import annotations

from typing import Final

from cutstream_server.errors import UnsupportedFormatError

try:
    import pillow_heif
except ImportError:
    HEIF_IS_READABLE = False
else:
    pillow_heif.register_heif_opener()
    HEIF_IS_READABLE = True

# First bytes and the name under which Pillow knows the format.
SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# What people send as well; naming it helps more than "not an image".
UNREAD_SIGNATURES: Final = (
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"<svg", "SVG"),
    (b"v/1\x01", "OpenEXR"),
)
# Brands of an ISO base media file (ISO/IEC 23008-12 and the AV1 Image File Format). mif1 and msf1 say "an image": the
# list of compatible brands tells which.
AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"})
GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
# Real lists hold about ten brands of 4 bytes; the size that a file states is not to be trusted.
BRAND_LIST_BYTES: Final = 256


def recognise_format(data: bytes) -> str:
    """Return Pillow's name of the file's format, one of those that the server reads.

    Raises:
        UnsupportedFormatError: another format, named in the metadata when it is known; HEIC without the extra `heif`.
    """
    for signature, name in SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _recognise_media_file(data)
    for signature, name in UNREAD_SIGNATURES:
        if data.startswith(signature):
            raise UnsupportedFormatError(f"{name} files are not read", format=name)
    raise UnsupportedFormatError("the bytes are not an image of a known format")


def _recognise_media_file(data: bytes) -> str:
    end = min(int.from_bytes(data[:4], "big"), BRAND_LIST_BYTES)
    major, compatible = data[8:12], {data[i : i + 4] for i in range(16, end, 4)}
    if major in AVIF_BRANDS or (major in GENERAL_BRANDS and compatible & AVIF_BRANDS):
        return "AVIF"
    if major not in HEIF_BRANDS | GENERAL_BRANDS:
        raise UnsupportedFormatError("the bytes are a media file, not an image of a known format")
    if not HEIF_IS_READABLE:
        raise UnsupportedFormatError(
            "this server reads no HEIC: it needs the package extra cutstream-server[heif]",
            format="HEIF",
            extra="heif",
        )
    return "HEIF"


def readable_formats() -> list[str]:
    """Return the names of the formats that are read, sorted."""
    names = {name for _, name in SIGNATURES} | {"WEBP", "AVIF"}
    return sorted(names | {"HEIF"} if HEIF_IS_READABLE else names)
