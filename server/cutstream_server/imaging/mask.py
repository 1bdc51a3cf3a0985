"""What is done to an alpha map before it is framed: threshold, floor, quantisation, components, region.

An alpha map is float32 of shape (h, w), 0 (background) to 1 (object). No function changes its argument. An *object
pixel* is one above the threshold, strictly, compared in float32: 204 of 255 is not above 0.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.geometry import Box, Size

AlphaMap: TypeAlias = npt.NDArray[np.float32]

# Otsu's histogram has a bin for each level of an 8-bit mask, as OpenCV's and scikit-image's have.
OTSU_LEVELS: Final = 256


@dataclass(frozen=True)
class Threshold:
    """The threshold that chooses the object's box, and how it came about.

    Attributes:
        used: the object is where alpha > `used`.
        otsu: Otsu's threshold of the map, before any clamp, whether used or not.
        clamped: the limits moved the value that was asked for.
        lowered: nothing was above that value, so `used` is the lower one that glass is boxed at.
    """

    used: float
    otsu: float
    clamped: bool
    lowered: bool


def object_pixels(alpha: AlphaMap, threshold: float) -> npt.NDArray[np.bool_]:
    """Where alpha is above the threshold, as (h, w) bool."""
    return alpha > np.float32(threshold)


def otsu_threshold(alpha: AlphaMap) -> float:
    """The threshold that splits the map's histogram into the two classes of largest between-class variance.

    The histogram counts the 256 levels k = round(255 * alpha). The answer is (k + 0.5) / 255 for the highest level k of
    the lower class, so that `alpha > threshold` is exactly the upper class. Of equally good splits, as on either side
    of a gap, the lowest wins, as in OpenCV (which returns k) and scikit-image (which returns the middle of k's bin).

    Returns:
        A value in 0..1. A map without two classes (empty, full, constant, or all at one level) gives its maximum:
        nothing is above it.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979).
    """
    top = OTSU_LEVELS - 1
    levels = cv2.convertScaleAbs(alpha, alpha=top)
    histogram = cv2.calcHist([levels], [0], None, [OTSU_LEVELS], [0, OTSU_LEVELS]).ravel().astype(np.float64)
    lower_count = np.cumsum(histogram)
    lower_sum = np.cumsum(histogram * np.arange(OTSU_LEVELS))
    total, total_sum = lower_count[-1], lower_sum[-1]
    split = (lower_count > 0) & (lower_count < total)
    if not split.any():
        return float(alpha.max())
    # Between-class variance w0 * w1 * (m0 - m1)^2, times total^2; exact in gaps, so that argmax takes their first.
    distance = total * lower_sum - total_sum * lower_count
    variance = np.zeros(OTSU_LEVELS)
    np.divide(distance**2, lower_count * (total - lower_count), out=variance, where=split)
    return (int(np.argmax(variance)) + 0.5) / top


def adaptive_threshold(alpha: AlphaMap) -> float:
    """The threshold that USE_ADAPTIVE_THRESHOLD asks for, before the clamp: Otsu's."""
    return otsu_threshold(alpha)


def choose_threshold(
    alpha: AlphaMap,
    *,
    fixed: float,
    adaptive: bool,
    minimum: float,
    maximum: float,
    clamp: bool = True,
    input_alpha: bool = False,
) -> Threshold:
    """Choose the threshold for the object's box: the fixed or the adaptive one within limits, lowered for glass.

    Glass (alpha 0.7, say) has no pixel above a threshold of 0.8 and is an object all the same: when nothing is above
    the chosen threshold, `minimum` takes its place, or half the map's maximum where the alpha came with the image,
    whose author meant any of it to be seen. When nothing is above that either, there is no object and the chosen
    threshold is reported; `framing.foreground_box` is then None.

    Args:
        alpha: (h, w) in 0..1.
        fixed: the threshold without `adaptive`, 0..1.
        adaptive: take `adaptive_threshold` instead of `fixed`.
        minimum: lower limit (MASK_THRESHOLD_MIN), and where glass is boxed.
        maximum: upper limit (MASK_THRESHOLD_MAX).
        clamp: False for a number that a preset brings, which stands as it is.
        input_alpha: the map is the image's own alpha channel, not a prediction.
    """
    otsu = otsu_threshold(alpha)
    asked = adaptive_threshold(alpha) if adaptive else fixed
    chosen = min(max(asked, minimum), maximum) if clamp else asked
    peak = float(alpha.max())
    glass = peak / 2 if input_alpha else minimum
    # A preset may ask for less than the minimum: glass is only ever boxed lower, never higher.
    lowered = np.float32(glass) < np.float32(peak) <= np.float32(chosen)
    return Threshold(
        used=glass if lowered else chosen,
        otsu=otsu,
        clamped=chosen != asked,
        lowered=bool(lowered),
    )


def apply_alpha_floor(alpha: AlphaMap, floor: float) -> AlphaMap:
    """Set alpha below `floor` to 0 and above 1 - `floor` to 1, so that residues of a network defeat no cropper.

    Args:
        alpha: (h, w) in 0..1.
        floor: 0..0.5; 0 keeps every value.
    """
    floored = alpha * (alpha >= np.float32(floor))
    np.copyto(floored, np.float32(1), where=floored > np.float32(1 - floor))
    return floored


def quantize(alpha: AlphaMap, bits: int) -> AlphaMap:
    """Round alpha to the nearest k / (2^bits - 1), the levels of a mask of so many bits.

    Args:
        alpha: (h, w) in 0..1.
        bits: 8 or 16; 0 leaves the map as it is.
    """
    if bits == 0:
        return alpha
    levels = np.float32(2**bits - 1)
    rounded: AlphaMap = np.rint(alpha * levels)
    return rounded / levels


def count_components(alpha: AlphaMap, threshold: float) -> int:
    """How many 8-connected components the object pixels form; a single pixel counts."""
    labels, _ = cv2.connectedComponents(object_pixels(alpha, threshold).view(np.uint8), connectivity=8)
    return labels - 1


def keep_largest_component(alpha: AlphaMap, threshold: float) -> AlphaMap:
    """Keep the largest 8-connected component of object pixels with its soft edge; alpha is 0 elsewhere.

    Its soft edge is all alpha > 0 that is connected to it. Where that connects it to other components (two objects
    on one faint shadow), each soft pixel belongs to the component that is nearest, and what belongs to another one, or
    is cut off by it, goes. Call it after `apply_alpha_floor`: where a network leaves alpha > 0 everywhere, everything
    is connected.

    Args:
        alpha: (h, w) in 0..1.
        threshold: as used for the box. The largest component has the most pixels; the first in reading order wins
            a tie. A map with no object pixel comes back as it is.
    """
    cores = object_pixels(alpha, threshold)
    count, labels = cv2.connectedComponents(cores.view(np.uint8), connectivity=8)
    if count == 1:
        return alpha
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    seed = np.unravel_index(int(np.argmax(largest)), largest.shape)
    region = _connected_to(alpha > 0, seed)
    cores &= region
    if np.count_nonzero(cores) > np.count_nonzero(largest):
        region = _connected_to(region & _nearest_to(cores, seed), seed)
    return alpha * region


def limit_to_region(alpha: AlphaMap, region: Box, source: Size) -> AlphaMap:
    """Set alpha to 0 in every pixel whose centre lies outside `region` (source pixels).

    Args:
        alpha: (h, w), covering the whole source.
        region: where to look for the object; it may reach outside the image.
        source: size of the upright source image.
    """
    height, width = alpha.shape
    x = (np.arange(width) + 0.5) * source.width / width
    y = (np.arange(height) + 0.5) * source.height / height
    columns = (x >= region.left) & (x < region.right)
    rows = (y >= region.top) & (y < region.bottom)
    inside: npt.NDArray[np.bool_] = rows[:, np.newaxis] & columns
    return alpha * inside


def _connected_to(pixels: npt.NDArray[np.bool_], seed: tuple[np.intp, ...]) -> npt.NDArray[np.bool_]:
    """The 8-connected component of True pixels that holds the seed."""
    _, labels = cv2.connectedComponents(pixels.view(np.uint8), connectivity=8)
    connected: npt.NDArray[np.bool_] = labels == labels[seed]
    return connected


def _nearest_to(cores: npt.NDArray[np.bool_], seed: tuple[np.intp, ...]) -> npt.NDArray[np.bool_]:
    """The pixels that are nearer to the core which holds the seed than to any other 8-connected core."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~cores).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    owned: npt.NDArray[np.bool_] = nearest == nearest[seed]
    return owned
