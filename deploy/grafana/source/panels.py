"""A dashboard as data, and as Grafana's JSON. A panel is a few lines here and forty there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
# Grafana's grid is 24 columns wide.
COLUMNS: Final = 24
ROW_HEIGHT, STAT_HEIGHT, PANEL_HEIGHT = 1, 4, 8
SCHEMA_VERSION: Final = 41


@dataclass(frozen=True)
class Panel:
    """One panel: queries by their legend, and how they are shown.

    Attributes:
        unit: Grafana's name of it.
        kind: "timeseries", "stat" or "heatmap".
        width: in columns.
        note: what to make of it, behind the panel's info sign.
        maximum: upper end of the axis; None follows the data.
        stacked: areas on top of each other.
        exemplars: show single images, with their traces.
        red_below, red_above: where a stat turns red.
    """

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    note: str = ""
    maximum: float | None = None
    stacked: bool = False
    exemplars: bool = False
    red_below: float | None = None
    red_above: float | None = None

    @property
    def height(self) -> int:
        """In grid units."""
        return STAT_HEIGHT if self.kind == "stat" else PANEL_HEIGHT


@dataclass(frozen=True)
class Dashboard:
    """A page of rows of panels.

    Attributes:
        variables: by name, the metric and the label whose values are offered; `$filter` matches them all.
    """

    uid: str
    title: str
    description: str
    variables: dict[str, tuple[str, str]]
    rows: dict[str, list[Panel]]


def text(dashboard: Dashboard) -> str:
    """Gives a dashboard as its file holds it."""
    return json.dumps(_dashboard(dashboard), indent=2) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["cutstream"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["cutstream"], "title": "Cutstream", "keepTime": True}],
        "templating": {"list": list(_variables(dashboard))},
        "panels": list(_panels(dashboard)),
    }


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name, (metric, label) in dashboard.variables.items():
        query = f"label_values({metric}, {label})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    matchers = ",".join(f'{name}=~"${name}"' for name in dashboard.variables)
    number, top = 1, 0
    for title, panels in dashboard.rows.items():
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": ROW_HEIGHT},
        }
        number, top, left = number + 1, top + ROW_HEIGHT, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + panel.height
            position = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": position, **_panel(panel, matchers)}
            number, left = number + 1, left + panel.width
        top += panels[-1].height


def _panel(panel: Panel, matchers: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 15, "showPoints": "never"}
        if panel.stacked:
            defaults["custom"]["stacking"] = {"mode": "normal", "group": "A"}
    if panel.kind == "stat":
        defaults["thresholds"] = {"mode": "absolute", "steps": _steps(panel)}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": query.replace("$filter", matchers),
                "legendFormat": legend or "__auto",
                "exemplar": panel.exemplars,
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
            }
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _steps(panel: Panel) -> list[dict[str, Any]]:
    if panel.red_below is not None:
        return [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    return steps if panel.red_above is None else [*steps, {"color": "red", "value": panel.red_above}]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "cellGap": 1}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
