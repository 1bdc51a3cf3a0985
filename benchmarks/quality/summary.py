"""Totals of an evaluation as one dictionary, and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
from benchmarks.quality.measures import Measures
from benchmarks.quality.pipelines import BEFORE
from benchmarks.quality.statistics import STATISTICS, Values, auroc, ratio, total
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]

MEASURES: Final = tuple(field.name for field in fields(Measures))
# Overlap is good; everything else is an error.
HIGHER_IS_BETTER: Final = ("iou",)
# Above this composite error, in percent, a cutout has failed: what a confidence has to rank.
FAILED_ABOVE: Final = 5.0
SHOWN: Final = ("composite", "edge_mae", "alpha_mae", "mse", "sad", "grad", "conn", "iou", "colour", "box", "centring")
COUNTED: Final = ("wrong", "cut")


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Totals of each pipeline, their ratios to the first pipeline, and what each of these makes worse."""
    by_pipeline = {
        name: [row for row in rows if row["pipeline"] == name]
        for name in dict.fromkeys(row["pipeline"] for row in rows)
    }
    base = by_pipeline[BEFORE]
    return {
        "scenes": len(base),
        "objects": len({row["object_name"] for row in base}),
        "pipelines": {name: _of_pipeline(own, base) for name, own in by_pipeline.items()},
    }


def _of_pipeline(rows: Sequence[Row], base: Sequence[Row]) -> dict[str, Any]:
    objects = [row["object_name"] for row in rows]
    totals: dict[str, Any] = {}
    for name in MEASURES:
        values, before = _column(rows, name), _column(base, name)
        totals[name] = {
            kind: {
                **asdict(total(values, objects, statistic)),
                "of_before": asdict(ratio(values, before, objects, statistic)),
            }
            for kind, statistic in STATISTICS.items()
        }
    failed, confidence = _column(rows, "composite") > FAILED_ABOVE, _column(rows, "confidence")
    known = ~np.isnan(confidence)
    seconds = _column(rows, "seconds")
    found = _column(base, "wrong") == 0
    found_objects = [name for name, is_found in zip(objects, found, strict=True) if is_found]
    composite, composite_before = _column(rows, "composite")[found], _column(base, "composite")[found]
    return {
        "totals": totals,
        "composite_where_before_found_it": {
            kind: asdict(ratio(composite, composite_before, found_objects, statistic))
            for kind, statistic in STATISTICS.items()
        },
        "counts": {name: int(_column(rows, name).sum()) for name in COUNTED},
        "failed": int(failed.sum()),
        "confidence_auroc": auroc(confidence[known], failed[known]) if known.any() else None,
        "seconds_median": None if np.isnan(seconds).all() else float(np.nanmedian(seconds)),
        "worse_than_before": _worse(rows, base),
        "worse_totals": [
            f"{kind} {name}"
            for name, kinds in totals.items()
            for kind, value in kinds.items()
            if _is_worse(name, value["of_before"])
        ],
    }


def _is_worse(name: str, of_before: Mapping[str, float]) -> bool:
    """Beyond its interval."""
    return of_before["high"] < 1 if name in HIGHER_IS_BETTER else of_before["low"] > 1


def _worse(rows: Sequence[Row], base: Sequence[Row]) -> list[dict[str, Any]]:
    """The scenes with a larger composite error than before, the worst first."""
    pairs = [(row["composite"] - first["composite"], row, first) for row, first in zip(rows, base, strict=True)]
    return [
        {"scene": row["scene"], "composite": row["composite"], "before": first["composite"], "iou": row["iou"]}
        for difference, row, first in sorted(pairs, key=lambda pair: -pair[0])
        if difference > 0
    ]


def _column(rows: Sequence[Row], name: str) -> Values:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Prints totals, ratios with intervals, and counts."""
    pipelines = summary["pipelines"]
    title = (
        f"{summary['scenes']} scenes of {summary['objects']} objects, {summary['split']}, through {summary['through']}"
    )
    for kind in STATISTICS:
        table = Table(title=f"{kind}: {title}")
        for column in ("pipeline", *SHOWN):
            table.add_column(column, justify="left" if column == "pipeline" else "right")
        for name, own in pipelines.items():
            table.add_row(name, *(f"{own['totals'][measure][kind]['value']:.2f}" for measure in SHOWN))
        console.print(table)
    table = Table(title="of before, with 95 percent intervals over objects; counts; seconds", show_lines=True)
    columns = (
        "composite mean",
        "composite median",
        "where before found it",
        "edge mean",
        "wrong",
        "cut",
        "failed",
        "AUROC",
        "s",
        "worse totals",
    )
    for column in ("pipeline", *columns):
        table.add_column(column, justify="left" if column == "pipeline" else "right")
    for name, own in pipelines.items():
        found = own["composite_where_before_found_it"]
        totals, counts = own["totals"], own["counts"]
        table.add_row(
            name,
            _interval(totals["composite"]["mean"]["of_before"]),
            _interval(totals["composite"]["median"]["of_before"]),
            f"{_interval(found['mean'])}, median {_interval(found['median'])}",
            _interval(totals["edge_mae"]["mean"]["of_before"]),
            f"{counts['wrong']} ({_percent(totals['wrong']['mean'])})",
            str(counts["cut"]),
            str(own["failed"]),
            _or_dash(own["confidence_auroc"]),
            _or_dash(own["seconds_median"]),
            ", ".join(own["worse_totals"]) or "none",
        )
    console.print(table)
    console.print(f"Through {summary['through']}.")
    if summary["absent_peers"]:
        console.print(f"rembg is absent: {summary['absent_peers']}")


def _interval(value: Mapping[str, float]) -> str:
    return f"{100 * value['value']:.0f}% ({100 * value['low']:.0f}..{100 * value['high']:.0f})"


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['low']:.0f}..{100 * value['high']:.0f}%"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
