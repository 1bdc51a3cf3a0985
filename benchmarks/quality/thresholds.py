"""Which threshold boxes objects best: `python -m benchmarks.quality.thresholds --data DIR [--scenes N]`.

For masks of the real network on composed scenes: how often the clamp to 0.5..0.95 decides Otsu's threshold, and how far
the box of each rule is from the truth's box (intersection over union).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.quality.masks import MaskCache
from benchmarks.quality.pipelines import MASKS, MODEL
from benchmarks.quality.scenes import CONDITIONS, Scene, compose_scenes
from rich.console import Console
from rich.table import Table

from cutstream_server.imaging.framing import foreground_box
from cutstream_server.imaging.geometry import Box, Size
from cutstream_server.imaging.mask import AlphaMap, apply_alpha_floor, choose_threshold, otsu_threshold

LEAST, MOST = 0.5, 0.95
LEVELS: Final = 256
# The truth's box holds what can be seen; translucent objects are below any higher threshold.
VISIBLE: Final = 0.1


def kapur_threshold(alpha: AlphaMap) -> float:
    """The threshold of largest entropy of both classes (Kapur, Sahoo and Wong, 1985)."""
    counts = np.bincount(np.rint(alpha * (LEVELS - 1)).astype(int).ravel(), minlength=LEVELS)
    share = counts / counts.sum()
    below = np.cumsum(share)
    entropy = np.cumsum(np.where(share > 0, -share * np.log(np.maximum(share, 1e-300)), 0))
    split = (below > 0) & (below < 1)
    low, high = below[split], 1 - below[split]
    total = np.log(low) + entropy[split] / low + np.log(high) + (entropy[-1] - entropy[split]) / high
    return float((np.nonzero(split)[0][np.argmax(total)] + 0.5) / (LEVELS - 1)) if split.any() else float(alpha.max())


def edge_threshold(alpha: AlphaMap, rgb: np.ndarray) -> float:
    """The level of 0.5..0.95 whose outline lies on the strongest gradients of the image."""
    grey = cv2.cvtColor(cv2.resize(rgb, alpha.shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))

    def on_outline(level: float) -> float:
        outline = cv2.morphologyEx((alpha > level).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        return float(strength[outline].mean()) if outline.any() else 0.0

    return float(max(np.linspace(LEAST, MOST, 10), key=on_outline))


def clamped(value: float) -> float:
    """What the service does to any threshold."""
    return min(max(value, LEAST), MOST)


RULES: Final[Mapping[str, Callable[[AlphaMap, Scene], float]]] = {
    "fixed 0.8": lambda _, __: 0.8,
    "Otsu, clamped": lambda alpha, _: clamped(otsu_threshold(alpha)),
    "Kapur's entropy, clamped": lambda alpha, _: clamped(kapur_threshold(alpha)),
    "edge agreement": lambda alpha, scene: edge_threshold(alpha, scene.decoded),
    "fixed 0.5": lambda _, __: 0.5,
}


def main() -> None:
    """Prints one table for the conditions of the evaluation, and one for translucent objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with rgba/ and backgrounds/")
    parser.add_argument("--scenes", type=int, default=28, help="scenes of each split")
    arguments = parser.parse_args()
    for title, conditions, count in (
        ("all conditions", tuple(CONDITIONS), arguments.scenes),
        ("translucent objects", ("translucent",), arguments.scenes // 4),
    ):
        scenes = [*compose_scenes(arguments.data, count, "tuning", conditions)]
        scenes += compose_scenes(arguments.data, count, "reporting", conditions)
        Console().print(table(scenes, title))


def table(scenes: list[Scene], title: str) -> Table:
    """Compares the rules on some scenes."""
    cache = MaskCache(MODEL, MASKS)
    masks = [apply_alpha_floor(cache.alpha(scene.decoded), 0.01) for scene in scenes]
    decided = np.mean([not LEAST <= otsu_threshold(mask) <= MOST for mask in masks])
    shown = Table(title=f"{len(scenes)} scenes, {title}; the clamp decides Otsu in {decided:.0%}")
    for column in ("rule", "box IoU, mean", "median", "boxes under 0.8"):
        shown.add_column(column, justify="left" if column == "rule" else "right")
    for name, rule in RULES.items():
        overlaps = np.array(
            [overlap(mask, rule(mask, scene), scene) for mask, scene in zip(masks, scenes, strict=True)]
        )
        shown.add_row(name, f"{overlaps.mean():.4f}", f"{np.median(overlaps):.4f}", str((overlaps < 0.8).sum()))
    return shown


def overlap(mask: AlphaMap, threshold: float, scene: Scene) -> float:
    """Intersection over union of the object's box and the truth's; glass is boxed lower, as in the service."""
    rows, columns = scene.alpha.shape
    size = Size(columns, rows)
    used = choose_threshold(mask, fixed=threshold, adaptive=False, minimum=LEAST, maximum=MOST).used
    ours, truth = foreground_box(mask, used, size), foreground_box(scene.alpha, VISIBLE, size)
    return _overlap(ours, truth) if ours is not None and truth is not None else 0.0


def _overlap(a: Box, b: Box) -> float:
    width = max(0.0, min(a.right, b.right) - max(a.left, b.left))
    height = max(0.0, min(a.bottom, b.bottom) - max(a.top, b.top))
    common = width * height
    return common / (a.width * a.height + b.width * b.height - common)


if __name__ == "__main__":
    main()
