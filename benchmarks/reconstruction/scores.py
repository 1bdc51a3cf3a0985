"""What is told of one reconstruction, and totals over shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from benchmarks.quality.statistics import STATISTICS, Total, total
from benchmarks.reconstruction.carving import Grid
from benchmarks.reconstruction.meshes import Solid, chamfer_percent, component_count, volume_iou
from trimesh import Trimesh

# Below it a silhouette is of something else, or lacks a large part.
WRONG_SILHOUETTE_IOU: Final = 0.8


@dataclass(frozen=True)
class Measures:
    """A mesh against the shape and against the hull of the true silhouettes; as it stands here, no mesh at all.

    Attributes:
        volume_iou: with the shape itself.
        chamfer_percent: to the shape's surface.
        hull_volume_iou: with the hull of the true silhouettes.
        hull_chamfer_percent: to that hull's surface.
        vertex_count: of the mesh.
        vertex_ratio: over that of the shape's own mesh on the same grid.
        component_count: pieces of the mesh.
    """

    volume_iou: float = 0.0
    chamfer_percent: float | None = None
    hull_volume_iou: float = 0.0
    hull_chamfer_percent: float | None = None
    vertex_count: int = 0
    vertex_ratio: float = 0.0
    component_count: int = 0


@dataclass(frozen=True)
class Row:
    """One pipeline on one shape.

    Attributes:
        shape: its name.
        pipeline: its name; "truth", cut out by the true alpha, shows what the method itself can do.
        maker: "hull", or "downstream" for the command's mesh.
        silhouette_ious: of each view, in the view's frame.
        empty_views: in how many of them the pipeline found nothing; they are left out of the carving.
        measures: of the mesh.
        true_component_count: pieces of the shape.
        failure: why there is no mesh.
    """

    shape: str
    pipeline: str
    maker: str
    silhouette_ious: tuple[float, ...]
    empty_views: int
    measures: Measures
    true_component_count: int
    failure: str


@dataclass(frozen=True)
class References:
    """What meshes of one shape are compared with: the shape, and the hull of its true silhouettes."""

    truth: Solid
    hull: Solid
    grid: Grid

    def measure(self, mesh: Trimesh | None) -> Measures:
        """Compare a mesh with both."""
        if mesh is None:
            return Measures()
        solid = Solid.of(mesh, self.grid)
        return Measures(
            volume_iou=volume_iou(solid, self.truth),
            chamfer_percent=chamfer_percent(solid, self.truth),
            hull_volume_iou=volume_iou(solid, self.hull),
            hull_chamfer_percent=chamfer_percent(solid, self.hull),
            vertex_count=len(mesh.vertices),
            vertex_ratio=len(mesh.vertices) / len(self.truth.mesh.vertices),
            component_count=component_count(mesh),
        )


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Totals of each maker and pipeline over all shapes, in the order of the rows.

    Chamfer distances are medians in which a missing mesh is infinitely far: a mean over the meshes that there are would
    reward who fails on the hard shapes.
    """
    groups = dict.fromkeys((row.maker, row.pipeline) for row in rows)
    return [_summary([row for row in rows if (row.maker, row.pipeline) == group], rows) for group in groups]


def _summary(rows: Sequence[Row], everything: Sequence[Row]) -> dict[str, Any]:
    first = rows[0]
    shapes, measures = [row.shape for row in rows], [row.measures for row in rows]
    silhouettes = np.concatenate([row.silhouette_ious for row in rows])
    before = {r.shape: r.measures for r in everything if (r.maker, r.pipeline) == (first.maker, "before")}
    better = sum(row.measures.hull_volume_iou > before[row.shape].hull_volume_iou for row in rows) if before else None
    return {
        "maker": first.maker,
        "pipeline": first.pipeline,
        "shapes": len(rows),
        "silhouette_iou": float(silhouettes.mean()),
        "wrong_silhouettes": int((silhouettes < WRONG_SILHOUETTE_IOU).sum()),
        "views": len(silhouettes),
        "empty_views": sum(row.empty_views for row in rows),
        "volume_iou": _interval(shapes, [each.volume_iou for each in measures]),
        "hull_volume_iou": _interval(shapes, [each.hull_volume_iou for each in measures]),
        "hull_volume_iou_median": float(np.median([each.hull_volume_iou for each in measures])),
        "chamfer_percent_median": _median([each.chamfer_percent for each in measures]),
        "hull_chamfer_percent_median": _median([each.hull_chamfer_percent for each in measures]),
        "vertex_ratio_median": float(np.median([each.vertex_ratio for each in measures])),
        "components_mean": float(np.mean([each.component_count for each in measures])),
        "true_components_mean": float(np.mean([row.true_component_count for row in rows])),
        "without_mesh": sum(each.vertex_count == 0 for each in measures),
        "better_than_before": better,
    }


def _interval(shapes: Sequence[str], values: Sequence[float]) -> Mapping[str, float]:
    measured: npt.NDArray[np.float64] = np.array(values, np.float64)
    found: Total = total(measured, shapes, STATISTICS["mean"])
    return asdict(found)


def _median(values: Sequence[float | None]) -> float | None:
    median = float(np.median([np.inf if value is None else value for value in values]))
    return median if np.isfinite(median) else None
