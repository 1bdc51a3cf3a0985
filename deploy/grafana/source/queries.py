"""The queries that the dashboards share. `$filter` stands for the label matchers of a dashboard's variables."""

from __future__ import annotations

from typing import Final

RANGE: Final = "$__rate_interval"
"""The window that Grafana chooses by zoom and scrape interval."""


def rate(metric: str, by: str = "", matchers: str = "") -> str:
    """Events a second, summed over servers."""
    labels = ",".join(filter(None, ("$filter", matchers)))
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{RANGE}]))"


def quantile(level: float, metric: str, by: str = "", matchers: str = "") -> str:
    """A quantile of a histogram over all servers."""
    return f"histogram_quantile({level:g}, {rate(f'{metric}_bucket', ', '.join(filter(None, ('le', by))), matchers)})"


def mean(metric: str, by: str = "") -> str:
    """The mean of a histogram's values."""
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def quantiles(metric: str, levels: tuple[float, ...] = (0.5, 0.95, 0.99)) -> dict[str, str]:
    """Several quantiles, each with its legend."""
    return {f"{level:.0%} below": quantile(level, metric) for level in levels}


def share(part: str, whole: str) -> str:
    """A part of the whole, 0 where there is nothing of it and nothing where there is no whole."""
    return f"({part} or vector(0)) / {whole}"
