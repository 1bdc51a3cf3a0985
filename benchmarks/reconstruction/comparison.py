"""One shape: its views cut out by every pipeline, made into meshes, compared with the shape, and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from benchmarks.quality.frame import Result
from benchmarks.quality.pipelines import Pipeline
from benchmarks.reconstruction.alignment import align
from benchmarks.reconstruction.carving import Grid, carve
from benchmarks.reconstruction.cutouts import CutView, true_result
from benchmarks.reconstruction.downstream import Command, DownstreamError
from benchmarks.reconstruction.meshes import Solid, surface
from benchmarks.reconstruction.pictures import cutout_cell, photo_cell, portrait_cell, sheet
from benchmarks.reconstruction.scores import References, Row
from benchmarks.reconstruction.shapes import Shape
from benchmarks.reconstruction.views import View
from trimesh import Trimesh

TRUTH: Final = "truth"


@dataclass(frozen=True)
class Downstream:
    """An image-to-3D command.

    Attributes:
        command: what runs.
        in_world: whether its meshes lie in the world of cameras.json; else they are laid over the shape.
    """

    command: Command
    in_world: bool


@dataclass(frozen=True)
class Made:
    """A mesh made of cutouts, or why there is none."""

    maker: str
    mesh: Trimesh | None
    failure: str = ""


def cut_all(views: Sequence[View], pipelines: Mapping[str, Pipeline]) -> dict[str, list[Result]]:
    """What each pipeline makes of the views, the truth first."""
    made = {name: [pipeline(view.image) for view in views] for name, pipeline in pipelines.items()}
    return {TRUTH: [true_result(view) for view in views], **made}


def compare(
    shape: Shape,
    views: Sequence[View],
    results: Mapping[str, Sequence[Result]],
    grid: Grid,
    out: Path,
    downstream: Downstream | None = None,
) -> list[Row]:
    """Compare the pipelines on one shape and draw its sheet, `out`/SHAPE.jpg.

    Args:
        shape: the truth.
        views: of the shape.
        results: of the views, from `cut_all`.
        grid: of the hulls and of all comparisons.
        out: the folder for the sheet, and for the cutouts and meshes of `downstream`.
        downstream: an image-to-3D command to try beside the hulls.
    """
    references = _references(shape, [CutView(*pair) for pair in zip(views, results[TRUTH], strict=True)], grid)
    cells = [{"photo": photo_cell(view.image)} for view in views]
    portraits = {maker: {"photo": portrait_cell(references.truth.mesh)} for maker in _makers(downstream)}
    rows = []
    for name, own in results.items():
        cut = [CutView(*pair) for pair in zip(views, own, strict=True)]
        for cell, cutout in zip(cells, cut, strict=True):
            cell[name] = cutout_cell(cutout.seen, cutout.true_alpha)
        found = [cutout for cutout in cut if cutout.found]
        folder = out / "downstream" / shape.name / name
        for made in _reconstruct(found, grid, downstream, folder, references.truth.mesh):
            portraits[made.maker][name] = portrait_cell(made.mesh)
            rows.append(
                Row(
                    shape.name,
                    name,
                    made.maker,
                    silhouette_ious=tuple(cutout.silhouette_iou for cutout in cut),
                    empty_views=len(cut) - len(found),
                    measures=references.measure(made.mesh),
                    true_component_count=shape.component_count,
                    failure=made.failure,
                )
            )
    (out / f"{shape.name}.jpg").write_bytes(sheet([*portraits.values(), *cells]))
    return rows


def _makers(downstream: Downstream | None) -> tuple[str, ...]:
    return ("hull", "downstream") if downstream else ("hull",)


def _reconstruct(
    found: Sequence[CutView], grid: Grid, downstream: Downstream | None, folder: Path, truth: Trimesh
) -> Iterator[Made]:
    if not found:
        yield from (Made(maker, None, "nothing found in any view") for maker in _makers(downstream))
        return
    hull = _hull(found, grid)
    yield Made("hull", hull, "" if hull else "the silhouettes have no volume in common")
    if downstream is None:
        return
    try:
        mesh = downstream.command.run([(cutout.view.camera, cutout.result) for cutout in found], folder)
    except DownstreamError as error:
        yield Made("downstream", None, str(error))
    else:
        yield Made("downstream", mesh if downstream.in_world else align(mesh, truth))


def _hull(cut: Sequence[CutView], grid: Grid) -> Trimesh | None:
    return surface(carve(grid, [(cutout.view.camera, cutout.alpha) for cutout in cut]), 0.5)


def _references(shape: Shape, true: Sequence[CutView], grid: Grid) -> References:
    depth = -shape.distance(grid.centres.astype(np.float32)).reshape(grid.side, grid.side, grid.side)
    truth, hull = surface(depth, 0.0), _hull(true, grid)
    assert truth is not None
    assert hull is not None
    return References(Solid.of(truth, grid), Solid.of(hull, grid), grid)
