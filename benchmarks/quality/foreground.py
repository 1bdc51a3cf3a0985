"""Whether foreground colours help a cutout: `python -m benchmarks.quality.foreground --data DIR [--scenes N]`.

Cutouts of 518 px in the truth's frame, made with the true alpha (which leaves colour alone to be wrong) and with the
real network's, are laid over black, white and green and compared with the true object laid over the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.masks import MaskCache
from benchmarks.quality.pipelines import MASKS, MODEL
from benchmarks.quality.scenes import Scene, compose_scenes
from rich.console import Console
from rich.table import Table

from cutstream_server.imaging.foreground import compose_foreground
from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.mask import AlphaMap, apply_alpha_floor
from cutstream_server.imaging.resample import Floats, Pixels, resample_premultiplied, sample_map

SIDE_PX: Final = 518
PADDING: Final = 0.2
ALPHA_FLOOR: Final = 0.01
BACKDROPS: Final = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "green": (0.0, 1.0, 0.0)}
# As published: windows of 90 and then of 6 pixels.
FUSION_RADII: Final = (90, 6)

Method = Callable[[Pixels, AlphaMap, CropBox, int, int], tuple[Floats, Floats]]


def main() -> None:
    """Prints one table for the true alpha and one for the network's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with rgba/ and backgrounds/")
    parser.add_argument("--scenes", type=int, default=24, help="scenes of the reporting split")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    scenes = list(compose_scenes(arguments.data, arguments.scenes, "reporting"))
    Console().print(table("true alpha", [(scene, scene.alpha) for scene in scenes]))
    cache = MaskCache(MODEL, MASKS)
    Console().print(table("the network's alpha", [(scene, network_alpha(cache, scene)) for scene in scenes]))


def table(title: str, scenes: list[tuple[Scene, AlphaMap]]) -> Table:
    """Compares the methods on scenes, each with the alpha of its cutout."""
    shown = Table(title=title)
    shown.add_column("method")
    for column in (*(f"over {name} %" for name in BACKDROPS), "mean %", "colour of soft pixels, of 255", "better in"):
        shown.add_column(column, justify="right")
    naive: npt.NDArray[np.float64] | None = None
    for name, method in METHODS.items():
        errors = np.array([errors_of(method, scene, alpha) for scene, alpha in scenes])
        composite = errors[:, : len(BACKDROPS)].mean(axis=1)
        naive = composite if naive is None else naive
        means = np.nanmean(errors, axis=0)
        backdrops = [f"{100 * mean:.3f}" for mean in means[:-1]]
        better = f"{np.mean(composite < naive):.0%}"
        shown.add_row(name, *backdrops, f"{100 * composite.mean():.3f}", f"{255 * means[-1]:.1f}", better)
    return shown


def errors_of(method: Method, scene: Scene, alpha: AlphaMap) -> tuple[float, ...]:
    """Mean absolute error over each backdrop, and of the colour of soft pixels."""
    crop = true_frame(scene)
    foreground = np.rint(65535 * scene.foreground).astype(np.uint16)
    true_rgb, true_alpha = resample_premultiplied(foreground, scene.alpha, crop, SIDE_PX, SIDE_PX)
    rgb, out_alpha = method(scene.decoded, alpha, crop, SIDE_PX, SIDE_PX)
    composites = [
        float(np.abs(lay_over(color, rgb, out_alpha) - lay_over(color, true_rgb, true_alpha)).mean())
        for color in BACKDROPS.values()
    ]
    soft = (out_alpha >= 0.05) & (out_alpha <= 0.95) & (true_alpha > 0.05)
    # Where nothing soft was found there is no colour to compare.
    colour = float(np.abs(rgb - true_rgb)[soft].mean()) if soft.any() else float("nan")
    return (*composites, colour)


def true_frame(scene: Scene) -> CropBox:
    """The square around the truth's box that all methods share."""
    left, top, width, height = cv2.boundingRect((scene.alpha > 0.5).astype(np.uint8))
    side = max(width, height) * (1 + PADDING)
    return CropBox(left + (width - side) / 2, top + (height - side) / 2, side, side)


def lay_over(color: tuple[float, float, float], rgb: Floats, alpha: Floats) -> Floats:
    """Compose over one colour."""
    weight = alpha[:, :, np.newaxis]
    laid: Floats = weight * rgb + (1 - weight) * np.array(color, np.float32)
    return laid


def network_alpha(cache: MaskCache, scene: Scene) -> AlphaMap:
    """The network's alpha at the scene's pixels, without its residues."""
    height, width = scene.alpha.shape
    mask = apply_alpha_floor(cache.alpha(scene.decoded), ALPHA_FLOOR)
    return sample_map(mask, Size(width, height), 0, 0, width, height)


def blur_fusion(rgb: Pixels, alpha: AlphaMap, crop: CropBox, width: int, height: int) -> tuple[Floats, Floats]:
    """Estimate by M. Forte and F. Pitié, "Approximate Fast Foreground Colour Estimation", ICIP 2021."""
    _, out_alpha = resample_premultiplied(rgb, alpha, crop, width, height)
    observed, _ = resample_premultiplied(rgb, np.ones(alpha.shape, np.float32), crop, width, height)
    weight = out_alpha[:, :, np.newaxis]
    foreground = background = observed
    for radius in FUSION_RADII:
        size = (2 * radius + 1, 2 * radius + 1)
        blurred = cv2.blur(out_alpha, size)[:, :, np.newaxis]
        smooth = cv2.blur(foreground * weight, size) / (blurred + 1e-5)
        background = cv2.blur(background * (1 - weight), size) / (1 - blurred + 1e-5)
        foreground = np.clip(smooth + weight * (observed - weight * smooth - (1 - weight) * background), 0, 1)
    return foreground.astype(np.float32), out_alpha


METHODS: Final[Mapping[str, Method]] = {
    "observed colours (no estimation)": resample_premultiplied,
    "blur fusion": blur_fusion,
    "compose_foreground": compose_foreground,
}


if __name__ == "__main__":
    main()
