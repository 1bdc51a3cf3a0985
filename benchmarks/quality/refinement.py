"""Whether edge refinement lowers the error of edges: `python -m benchmarks.quality.refinement --data DIR [--scenes N]`.

Masks of the real network on composed scenes, with and without `refine_edges`, and with OpenCV's guided filter for
comparison, against the truth in a band of 3 pixels (of 1024) around its edge.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.masks import MaskCache
from benchmarks.quality.pipelines import MASKS, MODEL
from benchmarks.quality.scenes import Scene, Split, compose_scenes
from rich.console import Console
from rich.table import Table

from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.refinement import refine_edges

BAND_PX: Final = 3
GRID_PX: Final = 1024
# Below this the network found another object, and no edge can be right.
FOUND_IOU: Final = 0.8

Method = Callable[[AlphaMap, npt.NDArray[np.uint8]], AlphaMap]


def main() -> None:
    """Prints one table for each split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with rgba/ and backgrounds/")
    parser.add_argument("--scenes", type=int, default=56, help="scenes of each split")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    splits: tuple[Split, ...] = ("tuning", "reporting")
    for split in splits:
        Console().print(table(list(compose_scenes(arguments.data, arguments.scenes, split)), split))


def table(scenes: list[Scene], split: Split) -> Table:
    """Compares the methods on the scenes in which the network found the object."""
    cache = MaskCache(MODEL, MASKS)
    found = [(scene, mask) for scene in scenes if is_found(mask := cache.alpha(scene.decoded), scene.alpha)]
    shown = Table(title=f"{split}: {len(found)} of {len(scenes)} found")
    for column in ("method", "edge-band MAE %", "of unrefined", "better in", "CPU ms"):
        shown.add_column(column, justify="left" if column == "method" else "right")
    unrefined: npt.NDArray[np.float64] | None = None
    for name, method in METHODS.items():
        began = time.thread_time()
        errors = np.array([edge_error(method(mask, scene.decoded), scene.alpha) for scene, mask in found])
        milliseconds = 1000 * (time.thread_time() - began) / len(found)
        unrefined = errors if unrefined is None else unrefined
        ratio, better = errors.mean() / unrefined.mean(), np.mean(errors < unrefined)
        shown.add_row(name, f"{100 * errors.mean():.2f}", f"{ratio:.3f}", f"{better:.0%}", f"{milliseconds:.0f}")
    return shown


def guided_filter(radius: int, eps: float) -> Method:
    """OpenCV's guided filter on the whole mask at source resolution, as in a first description."""

    def run(mask: AlphaMap, rgb: npt.NDArray[np.uint8]) -> AlphaMap:
        height, width = rgb.shape[:2]
        enlarged = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        guide = rgb.astype(np.float32) / 255
        scaled = max(1, round(radius * max(height, width) / GRID_PX))
        filtered: AlphaMap = np.clip(cv2.ximgproc.guidedFilter(guide, enlarged, scaled, eps), 0, 1)
        return filtered

    return run


METHODS: Final[Mapping[str, Method]] = {
    "none": lambda mask, _: mask,
    **{
        f"refine_edges, radius {r}": lambda mask, rgb, r=r: refine_edges(mask, rgb, radius=r, eps=1e-3)
        for r in (2, 5, 12)
    },
    "refine_edges, eps 0.01": lambda mask, rgb: refine_edges(mask, rgb, radius=5, eps=1e-2),
    "guided filter, radius 5, eps 0.001": guided_filter(5, 1e-3),
    "guided filter, radius 2, eps 0.00001": guided_filter(2, 1e-5),
}


def is_found(mask: AlphaMap, truth: AlphaMap) -> bool:
    """Whether the mask is of the scene's object."""
    height, width = truth.shape
    seen = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    wanted = truth > 0.5
    return bool((seen & wanted).sum() > FOUND_IOU * (seen | wanted).sum())


def edge_error(mask: AlphaMap, truth: AlphaMap) -> float:
    """Mean absolute error in the band around the truth's edge; the mask is enlarged to the truth."""
    height, width = truth.shape
    if mask.shape != truth.shape:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    soft = ((truth > 0.02) & (truth < 0.98)).astype(np.uint8)
    edge = cv2.morphologyEx((truth > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    reach = max(1, round(BAND_PX * max(height, width) / GRID_PX))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = cv2.dilate(soft | edge, disc) > 0
    return float(np.abs(mask - truth)[band].mean())


if __name__ == "__main__":
    main()
