"""Resampling: cutouts from source pixels, the network's input, and single-channel maps.

Every resampler here is two products with the sparse matrices of `kernels`, rows first and then columns. It works
through the output in bands, so that what it touches stays in the processor's cache and an image of any size costs a
few MB beside its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.kernels import (
    KERNELS,
    WEIGHT_BITS,
    Axis,
    Kernel,
    area_matrix,
    integer_weights,
    kernel_matrix,
    touched_pixels,
    whole_axis,
)

Floats: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]

# Source rows that are worked on together: 96 rows of four float planes of 1500 pixels are 2.3 MB. Shorter bands repeat
# more of the rows that two of them need, longer ones leave the cache; 64 to 128 measure the same within 10 percent.
BAND_ROWS: Final = 96
# Where alpha is 0, colour is clamped to 0 before it is divided: by this.
SMALLEST_DIVISOR: Final = np.finfo(np.float32).tiny


def resample_premultiplied(
    rgb: Pixels,
    alpha: Floats,
    crop: CropBox,
    width: int,
    height: int,
    *,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> tuple[Floats, Floats]:
    """Cut `crop` out of the source and resample it to `width` x `height`, colour weighted by alpha.

    The result is that of cutting the crop out with transparent fill, premultiplying, and resizing the cut with Pillow
    in float. Colour is then clamped to [0, alpha] and alpha to [0, 1], so that no kernel rings, and divided by alpha.

    Args:
        rgb: (H, W, 3) straight sRGB, uint8 or uint16.
        alpha: (H, W) float32 in 0..1.
        crop: continuous source pixels; may be fractional and reach outside the image, where all is transparent.
        width: output width in pixels.
        height: output height in pixels.
        interpolation: "bilinear" is the triangle, "bicubic" has a = -0.5, "lanczos" three lobes; "nearest" takes the
            source pixel that holds the output pixel's centre, whatever `antialias` says.
        antialias: widen the kernel when reducing; without it, reducing skips source pixels.

    Returns:
        Straight colour (height, width, 3) and alpha (height, width), both float32 in 0..1; colour is 0 where alpha is.
    """
    if interpolation == "nearest" or _keeps_pixels(crop, width, height):
        return _pick(rgb, alpha, crop, width, height)
    out_rgb = np.zeros((height, width, 3), np.float32)
    out_alpha = np.zeros((height, width), np.float32)
    sampling = _sampling(alpha, crop, Size(width, height), KERNELS[interpolation], antialias=antialias)
    if sampling is not None:
        read = _Premultiplier(rgb[sampling.visible], alpha[sampling.visible])
        for start, stop, band in _bands(sampling.rows, sampling.columns, read):
            _unpremultiply(band, out_rgb[start:stop], out_alpha[start:stop])
    return out_rgb, out_alpha


def resample_alpha(
    alpha: Floats,
    crop: CropBox,
    width: int,
    height: int,
    *,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> Floats:
    """Give the alpha of `resample_premultiplied`, the same to the bit, in a third of its time."""
    if interpolation == "nearest" or _keeps_pixels(crop, width, height):
        return _pick(np.zeros((*alpha.shape, 3), np.uint8), alpha, crop, width, height)[1]
    out = np.zeros((height, width), np.float32)
    sampling = _sampling(alpha, crop, Size(width, height), KERNELS[interpolation], antialias=antialias)
    if sampling is not None:
        visible = alpha[sampling.visible]
        for start, stop, band in _bands(sampling.rows, sampling.columns, lambda first, last: visible[first:last]):
            out[start:stop] = np.clip(band[:, 0], 0.0, 1.0)
    return out


@dataclass(frozen=True)
class _Sampling:
    """What makes an output of a source: weights of either axis, and the part of the source that they are for."""

    rows: csr_array
    columns: csr_array
    visible: tuple[slice, slice]


def _sampling(alpha: Floats, crop: CropBox, size: Size, kernel: Kernel, *, antialias: bool) -> _Sampling | None:
    """Return how to sample a crop, or None when nothing of it can be seen."""
    across = Axis(crop.left, crop.width, size.width, *touched_pixels(crop.left, crop.width))
    down = Axis(crop.top, crop.height, size.height, *touched_pixels(crop.top, crop.height))
    left, top, right, bottom = _visible_part(alpha, across, down)
    if left == right:
        return None
    return _Sampling(
        kernel_matrix(down, kernel, antialias=antialias, first=top, last=bottom),
        kernel_matrix(across, kernel, antialias=antialias, first=left, last=right),
        (slice(top, bottom), slice(left, right)),
    )


def to_network_input(rgb: Pixels, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Stretch the whole image to the network's input by antialiased bilinear interpolation.

    Args:
        rgb: (H, W, 3) sRGB, uint8 or uint16.
        width: the network's width in pixels.
        height: the network's height in pixels.

    Returns:
        (1, 3, height, width) uint8: Pillow's `resize` with `BILINEAR` within 2 of 255 on photos, 3 on noise.
    """
    if rgb.dtype == np.uint16:
        rgb = np.asarray(cv2.convertScaleAbs(rgb, alpha=255 / 65535), np.uint8).reshape(rgb.shape)
    source_height, source_width = rgb.shape[:2]
    rows = integer_weights(kernel_matrix(whole_axis(source_height, height), KERNELS["bilinear"], antialias=True))
    columns = integer_weights(kernel_matrix(whole_axis(source_width, width), KERNELS["bilinear"], antialias=True))
    out = np.empty((3, height, width), np.uint8)
    bands = list(_row_bands(rows))
    longest = max(last - first for _, _, first, last in bands)
    # Used again for each band, as in `_Premultiplier`.
    channels = np.empty((3, longest, source_width), np.uint8)
    planes = np.empty((longest, 3, source_width), np.uint16)
    for start, stop, first, last in bands:
        count = last - first
        cv2.split(rgb[first:last], list(channels[:, :count]))
        np.copyto(planes[:count], channels[:, :count].transpose(1, 0, 2))
        mixed = _descale(_band_of(rows, start, stop, first, last) @ planes[:count].reshape(count, -1))
        mixed = _descale(columns @ cv2.transpose(mixed.reshape(-1, source_width)))
        band = cv2.transpose(mixed.astype(np.uint8)).reshape(stop - start, 3, width)
        out[:, start:stop] = band.transpose(1, 0, 2)
    return out[np.newaxis]


def resize_map(values: Floats, width: int, height: int) -> Floats:
    """Resize a single-channel map by area: each output pixel is the mean of the source area that it covers.

    Exact for reductions and enlargements by any factor, so a map's mean is kept.

    Args:
        values: (h, w) float32.
        width: output width in pixels.
        height: output height in pixels.

    Returns:
        (height, width) float32 within the range of `values`.
    """
    source_height, source_width = values.shape
    if width <= source_width and height <= source_height:
        # OpenCV's area resize is the same for reductions, and quicker; enlarging it is another one.
        return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    return _resample_plane(values, area_matrix(source_height, height), area_matrix(source_width, width))


def sample_map(values: Floats, source: Size, left: int, top: int, right: int, bottom: int) -> Floats:
    """Bring a map that covers the whole source, such as the network's alpha, to source pixels in one region.

    Bilinear with pixel centres aligned; antialiased along an axis where the map is finer than the source.

    Args:
        values: (h, w) float32.
        source: size of the upright source that the map covers.
        left: first source column wanted, at least 0.
        top: first source row wanted, at least 0.
        right: source column after the last one wanted, at most the source's width.
        bottom: source row after the last one wanted, at most the source's height.

    Returns:
        (bottom - top, right - left) float32 within the range of `values`.
    """
    map_height, map_width = values.shape
    kernel = KERNELS["bilinear"]
    step_x, step_y = map_width / source.width, map_height / source.height
    across = Axis(left * step_x, (right - left) * step_x, right - left, 0, map_width)
    down = Axis(top * step_y, (bottom - top) * step_y, bottom - top, 0, map_height)
    return _resample_plane(
        values, kernel_matrix(down, kernel, antialias=True), kernel_matrix(across, kernel, antialias=True)
    )


def _descale(sums: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Divide by 2^WEIGHT_BITS in place, to the nearest."""
    sums += 1 << (WEIGHT_BITS - 1)
    sums >>= WEIGHT_BITS
    return sums


def _row_bands(rows: csr_array) -> Iterator[tuple[int, int, int, int]]:
    """Yield output rows [start, stop) and the source rows [first, last) that they need, leaving out what needs none."""
    count, source = rows.shape
    step = max(1, round(BAND_ROWS * min(1.0, count / source)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        taps = rows.indices[rows.indptr[start] : rows.indptr[stop]]
        if taps.size:
            yield start, stop, int(taps.min()), int(taps.max()) + 1


def _band_of(rows: csr_array, start: int, stop: int, first: int, last: int) -> csr_array:
    begin, end = rows.indptr[start], rows.indptr[stop]
    parts = (rows.data[begin:end], rows.indices[begin:end] - first, rows.indptr[start : stop + 1] - begin)
    return csr_array(parts, shape=(stop - start, last - first))


def _bands(
    rows: csr_array, columns: csr_array, read: Callable[[int, int], Floats]
) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """Yield output rows [start, stop) with their planes (stop - start, n, width).

    `read(first, last)` gives the source's rows as (last - first, n, source width); it is asked for one band at a time.
    """
    width, source_width = columns.shape
    for start, stop, first, last in _row_bands(rows):
        planes = read(first, last)
        mixed = _band_of(rows, start, stop, first, last) @ planes.reshape(last - first, -1)
        mixed = columns @ cv2.transpose(mixed.reshape(-1, source_width))
        yield start, stop, cv2.transpose(mixed).reshape(stop - start, -1, width)


def _resample_plane(values: Floats, rows: csr_array, columns: csr_array) -> Floats:
    out = np.zeros((rows.shape[0], columns.shape[0]), np.float32)
    for start, stop, band in _bands(rows, columns, lambda first, last: values[first:last]):
        out[start:stop] = band[:, 0]
    return out


def _visible_part(alpha: Floats, across: Axis, down: Axis) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the pixels in the crop and the image with any alpha; all 0 when none has."""
    height, width = alpha.shape
    left, right = max(across.low, 0), min(across.high, width)
    top, bottom = max(down.low, 0), min(down.high, height)
    if left >= right or top >= bottom:
        return 0, 0, 0, 0
    x, y, visible_width, visible_height = cv2.boundingRect((alpha[top:bottom, left:right] > 0).view(np.uint8))
    if visible_width == 0:
        return 0, 0, 0, 0
    return left + x, top + y, left + x + visible_width, top + y + visible_height


class _Premultiplier:
    """Premultiplied rows of an image, computed into buffers that are used again for each band.

    Fresh memory costs more than the arithmetic: with new arrays for each band this step measured 8 ms instead of 4.
    """

    def __init__(self, rgb: Pixels, alpha: Floats) -> None:
        self._rgb = rgb
        self._alpha = alpha
        self._scale = 1.0 / np.iinfo(rgb.dtype).max
        self._channels = np.empty((3, 0, rgb.shape[1]), rgb.dtype)
        self._planes = np.empty((0, 4, rgb.shape[1]), np.float32)

    def __call__(self, first: int, last: int) -> Floats:
        """Return (last - first, 4, width): red, green and blue times alpha in 0..1, and alpha; valid until the next."""
        count = last - first
        if count > len(self._planes):
            self._channels = np.empty((3, count, self._rgb.shape[1]), self._rgb.dtype)
            self._planes = np.empty((count, 4, self._rgb.shape[1]), np.float32)
        channels, planes, alpha = self._channels[:, :count], self._planes[:count], self._alpha[first:last]
        cv2.split(self._rgb[first:last], list(channels))
        for channel in range(3):
            cv2.multiply(channels[channel], alpha, planes[:, channel], scale=self._scale, dtype=cv2.CV_32F)
        planes[:, 3] = alpha
        return planes


def _unpremultiply(planes: Floats, out_rgb: Floats, out_alpha: Floats) -> None:
    """Write straight colour (n, width, 3) and alpha (n, width) of premultiplied (n, 4, width) planes, clamped."""
    alpha = np.clip(planes[:, 3], 0.0, 1.0, out=out_alpha)
    divisor = np.maximum(alpha, SMALLEST_DIVISOR)
    colour = [np.minimum(np.maximum(planes[:, channel], 0.0), alpha) / divisor for channel in range(3)]
    cv2.merge(colour, out_rgb)


def _keeps_pixels(crop: CropBox, width: int, height: int) -> bool:
    """Tell whether output pixels are source pixels, which every kernel here then returns as they are."""
    return (crop.width, crop.height) == (width, height) and crop.left == int(crop.left) and crop.top == int(crop.top)


def _pick(rgb: Pixels, alpha: Floats, crop: CropBox, width: int, height: int) -> tuple[Floats, Floats]:
    """Take for each output pixel the source pixel at its centre; transparent outside the image."""
    columns = np.floor(Axis(crop.left, crop.width, width, 0, 0).centres()).astype(np.intp)
    rows = np.floor(Axis(crop.top, crop.height, height, 0, 0).centres()).astype(np.intp)
    # Both run upwards: what lies inside the image is one block of the output.
    x = slice(*np.searchsorted(columns, (0, rgb.shape[1])))
    y = slice(*np.searchsorted(rows, (0, rgb.shape[0])))
    taken = np.ix_(rows[y], columns[x])
    out_rgb = np.zeros((height, width, 3), np.float32)
    out_alpha = np.zeros((height, width), np.float32)
    np.multiply(rgb[taken], np.float32(1.0 / np.iinfo(rgb.dtype).max), out=out_rgb[y, x], dtype=np.float32)
    out_alpha[y, x] = alpha[taken]
    out_rgb[out_alpha == 0] = 0.0
    return out_rgb, out_alpha
