"""Embedded ICC profiles to sRGB, by Little CMS through Pillow.

Conversion is relative colorimetric with black point compensation, as picture editors do it, and has 8 bits: Little CMS
behind Pillow knows no 16-bit RGB. A profile that is broken or does not fit the pixels is ignored, as browsers do.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

# The colour space that a profile states, and the Pillow mode of pixels that it describes.
MODE_OF_SPACE: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
# Pixels within one step of their sRGB value need no conversion: there are dozens of sRGB profiles that differ in name,
# size and last digits, and converting costs 20 ms a megapixel.
SRGB_TOLERANCE: Final = 1
PROBE_STEPS: Final = 6
# Transforms hold tables of up to some MB; a job's images come from a few cameras and programs.
CACHED_TRANSFORMS: Final = 16


def image_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a Pillow image of any 8-bit mode, without its alpha, to mode RGB in sRGB.

    Args:
        image: the image; palette, grey and bilevel images are expanded, CMYK and LAB taken as they are.
        profile: the embedded ICC profile, if any. Without one CMYK is inverted naively and LAB is CIE L*a*b* (D50).
    """
    grey = image.mode in {"1", "L", "LA"} and _mode_of(profile) == "L"
    if image.mode not in {"CMYK", "LAB"}:
        image = image.convert("L" if grey else "RGB")
    transform = _transform(profile, image.mode) if profile else None
    if transform is None and image.mode == "LAB":
        transform = _lab_transform()
    if transform is None:
        return image.convert("RGB")
    return ImageCms.applyTransform(image, transform) or image


def pixels_to_srgb(
    rgb: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], profile: bytes | None, *, grey: bool
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Convert (H, W, 3) pixels to sRGB; uint16 pixels with a profile other than sRGB come back as uint8.

    Args:
        rgb: decoded pixels, uint8 or uint16.
        profile: the embedded ICC profile, if any.
        grey: the source has one channel, which `rgb` repeats.
    """
    mode = "L" if grey and _mode_of(profile) == "L" else "RGB"
    transform = _transform(profile, mode) if profile else None
    if transform is None:
        return rgb
    if rgb.dtype == np.uint16:
        rgb = np.asarray(cv2.convertScaleAbs(rgb, alpha=255 / 65535), np.uint8).reshape(rgb.shape)
    image = Image.fromarray(rgb if mode == "RGB" else np.ascontiguousarray(rgb[..., 0]))
    return np.asarray(ImageCms.applyTransform(image, transform), np.uint8)


@lru_cache(CACHED_TRANSFORMS)
def _mode_of(profile: bytes | None) -> str | None:
    """Return the Pillow mode of the pixels that the profile describes; None without a usable profile."""
    opened = _open_profile(profile) if profile else None
    return MODE_OF_SPACE.get(opened.profile.xcolor_space.strip()) if opened else None


@lru_cache(CACHED_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB; None when the profile is broken, is for another mode, or changes nothing."""
    opened = _open_profile(profile)
    if opened is None or _mode_of(profile) != mode:
        return None
    try:
        transform = _to_srgb(opened, mode)
        probe = _probe(mode)
        if probe is None:
            return transform
        converted = np.asarray(ImageCms.applyTransform(probe, transform), np.int16)
    except ImageCms.PyCMSError:
        return None
    unchanged = np.asarray(probe.convert("RGB"), np.int16)
    return transform if np.abs(converted - unchanged).max() > SRGB_TOLERANCE else None


def _open_profile(profile: bytes) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError):
        return None


def _to_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        profile,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


@lru_cache(1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return _to_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _probe(mode: str) -> Image.Image | None:
    """Return an image of colours spread over the mode's cube; None for modes that are never sRGB."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    if mode == "RGB":
        levels = np.linspace(0, 255, PROBE_STEPS).astype(np.uint8)
        return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3))
    return None
