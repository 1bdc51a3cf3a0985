"""An HTML page with the worst scenes side by side: input, truth, and for each pipeline the cutout and its error."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.frame import Floats, Framed, Result, frame_result, frame_truth
from benchmarks.quality.scenes import Scene
from benchmarks.quality.statistics import STATISTICS

WORST: Final = 30
PANEL_PX: Final = 220
BACKDROP: Final = (0.82, 0.82, 0.82)
# An error of a quarter of full scale is as bright as the map gets.
ERROR_GAIN: Final = 4.0
WEBP_QUALITY: Final = 80
STYLE: Final = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .7em; border-bottom: 1px solid #ddd }
td { text-align: right } .scene { display: flex; flex-wrap: wrap; gap: .6em; margin-bottom: 2em }
figure { margin: 0 } figcaption { font-size: 12px } img { display: block; background: #eee }
"""


def save_panels(out: Path, scene: Scene, results: Mapping[str, Result]) -> None:
    """Writes the pictures of one scene below `out`/images/."""
    folder = out / "images" / scene.name
    folder.mkdir(parents=True, exist_ok=True)
    truth = frame_truth(scene)
    height, width = scene.alpha.shape
    scale = PANEL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    _write(folder / "input.webp", cv2.resize(scene.rgb, size, interpolation=cv2.INTER_AREA))
    _write(folder / "truth.webp", _panel(_laid(truth)))
    for name, result in results.items():
        framed = frame_result(result, scene)
        error = np.abs(_laid(framed) - _laid(truth)).mean(axis=2)
        heat = cv2.applyColorMap((255 * np.clip(ERROR_GAIN * error, 0, 1)).astype(np.uint8), cv2.COLORMAP_INFERNO)
        both = np.hstack([_panel(_laid(framed)), _panel(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB) / np.float32(255))])
        _write(folder / f"{name}.webp", both)


def write_page(out: Path, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `out`/index.html: totals, and the scenes with the largest composite error of any of our profiles."""
    by_scene: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_scene.setdefault(row["scene"], []).append(row)
    worst = sorted(by_scene.items(), key=lambda item: -max(row["composite"] for row in item[1]))[:WORST]
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Cutstream evaluation</title><style>{STYLE}</style>",
        f"<h1>{summary['scenes']} scenes, {html.escape(summary['split'])}</h1>",
        _totals(summary),
        f"<h2>The {len(worst)} worst scenes</h2><p>Cutout on grey, and its error (white: a quarter of full scale).</p>",
        *(_scene(name, own) for name, own in worst),
    ]
    (out / "index.html").write_text("\n".join(parts))


def _totals(summary: Mapping[str, Any]) -> str:
    columns = ("composite", "edge_mae", "alpha_mae", "iou", "colour")
    head = "".join(f"<th>{name}, mean<th>median<th>90th percentile" for name in columns)
    body = "".join(
        f"<tr><th>{html.escape(name)}"
        + "".join(f"<td>{own['totals'][measure][kind]['value']:.2f}" for measure in columns for kind in STATISTICS)
        for name, own in summary["pipelines"].items()
    )
    return f"<table><tr><th>pipeline{head}{body}</table>"


def _scene(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    folder = f"images/{html.escape(name)}"
    figures = [_figure(f"{folder}/input.webp", "input"), _figure(f"{folder}/truth.webp", "truth")]
    for row in rows:
        confidence = "" if row["confidence"] is None else f", confidence {row['confidence']:.2f}"
        caption = f"{row['pipeline']}: error {row['composite']:.2f}%, IoU {row['iou']:.0f}{confidence}"
        figures.append(_figure(f"{folder}/{row['pipeline']}.webp", caption))
    return f"<h3>{html.escape(name)}</h3><div class=scene>{''.join(figures)}</div>"


def _figure(source: str, caption: str) -> str:
    return f"<figure><img loading=lazy src='{source}'><figcaption>{html.escape(caption)}</figcaption></figure>"


def _laid(framed: Framed) -> Floats:
    laid: Floats = framed.premultiplied + (1 - framed.alpha)[..., np.newaxis] * np.array(BACKDROP, np.float32)
    return laid


def _panel(picture: Floats) -> npt.NDArray[np.uint8]:
    small = cv2.resize(picture, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(255 * np.clip(small, 0, 1)), np.uint8)


def _write(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
