"""The totals as a table to print, and everything as an HTML page."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.reconstruction.scores import Row
from rich.table import Table

STYLE: Final = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .7em; border-bottom: 1px solid #ddd }
td { text-align: right } td:first-child { text-align: left } img { max-width: 100% }
"""

Summary = Mapping[str, Any]

TOTALS: Final[Sequence[tuple[str, Callable[[Summary], str]]]] = (
    ("silhouette IoU, mean %", lambda s: _percent(s["silhouette_iou"])),
    ("silhouettes under 80 %", lambda s: f"{s['wrong_silhouettes']} of {s['views']}"),
    ("views with nothing found", lambda s: str(s["empty_views"])),
    ("volume IoU with true hull, mean %", lambda s: _percent(s["hull_volume_iou"]["value"])),
    ("  95 % interval", lambda s: _interval(s["hull_volume_iou"])),
    ("  median %", lambda s: _percent(s["hull_volume_iou_median"])),
    ("  shapes better than before", lambda s: _better(s["better_than_before"], s["shapes"])),
    ("chamfer to true hull, median %", lambda s: _number(s["hull_chamfer_percent_median"])),
    ("volume IoU with shape, mean %", lambda s: _percent(s["volume_iou"]["value"])),
    ("chamfer to shape, median %", lambda s: _number(s["chamfer_percent_median"])),
    ("vertices over shape's, median", lambda s: f"{s['vertex_ratio_median']:.2f}"),
    ("pieces, mean (of shapes)", lambda s: f"{s['components_mean']:.1f} ({s['true_components_mean']:.1f})"),
    ("shapes without a mesh", lambda s: str(s["without_mesh"])),
)
OF_SHAPE: Final[Sequence[tuple[str, Callable[[Row], str]]]] = (
    ("", lambda row: f"{row.pipeline}, {row.maker}"),
    ("silhouette IoU %", lambda row: _percent(sum(row.silhouette_ious) / len(row.silhouette_ious))),
    ("found nothing in", lambda row: str(row.empty_views)),
    ("true hull: IoU %", lambda row: _percent(row.measures.hull_volume_iou)),
    ("chamfer %", lambda row: _number(row.measures.hull_chamfer_percent)),
    ("shape: IoU %", lambda row: _percent(row.measures.volume_iou)),
    ("chamfer %", lambda row: _number(row.measures.chamfer_percent)),
    ("vertices", lambda row: str(row.measures.vertex_count)),
    ("pieces (true)", lambda row: f"{row.measures.component_count} ({row.true_component_count})"),
    ("remarks", lambda row: row.failure),
)


def totals_tables(summary: Sequence[Summary]) -> list[Table]:
    """The totals for the terminal: one table for the hulls, and one for the command's meshes."""
    tables = []
    for maker in dict.fromkeys(column["maker"] for column in summary):
        columns = [column for column in summary if column["maker"] == maker]
        table = Table(title=maker)
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(column["pipeline"], justify="right")
        for heading, cell in TOTALS:
            table.add_row(heading, *map(cell, columns))
        tables.append(table)
    return tables


def write_page(path: Path, title: str, summary: Sequence[Summary], rows: Sequence[Row]) -> None:
    """Write the page; the sheet of a shape is expected beside it as SHAPE.jpg."""
    headings = ["", *(f"{column['pipeline']}, {column['maker']}" for column in summary)]
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Reconstruction</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>docs/reconstruction.md says what the numbers mean.</p>",
        _html_table(headings, [[heading, *map(cell, summary)] for heading, cell in TOTALS]),
    ]
    for shape in dict.fromkeys(row.shape for row in rows):
        lines = [[cell(row) for _, cell in OF_SHAPE] for row in rows if row.shape == shape]
        parts += [
            f"<h2>{html.escape(shape)}</h2>",
            _html_table([heading for heading, _ in OF_SHAPE], lines),
            "<p>On top the shape and what was made of it. Cutouts: red is missing, blue is too much.</p>",
            f"<img src='{html.escape(shape)}.jpg' alt=''>",
        ]
    path.write_text("\n".join(parts))


def _html_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _better(better: int | None, shapes: int) -> str:
    return "" if better is None else f"{better} of {shapes}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(found: Mapping[str, float]) -> str:
    return f"{_percent(found['low'])} to {_percent(found['high'])}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
