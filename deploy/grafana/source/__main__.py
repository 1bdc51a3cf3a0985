"""Writes deploy/grafana/dashboards: `python -m deploy.grafana.source` (or `make docs`)."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana.source.panels import text
from deploy.grafana.source.quality import QUALITY
from deploy.grafana.source.service import SERVICE
from deploy.grafana.source.triton import TRITON

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = {"service": SERVICE, "quality": QUALITY, "triton": TRITON}


def main() -> None:
    """Writes the files."""
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(text(dashboard))


if __name__ == "__main__":
    main()
