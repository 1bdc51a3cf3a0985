import sys

import numpy as np
import pytest
from benchmarks.quality.frame import Result, nothing_found
from benchmarks.reconstruction.carving import Grid
from benchmarks.reconstruction.comparison import TRUTH, Downstream, compare, cut_all
from benchmarks.reconstruction.downstream import Command
from benchmarks.reconstruction.page import write_page
from benchmarks.reconstruction.scores import summarise

from cutstream_server.imaging.geometry import CropBox

GRID = Grid(40)
SPHERE = 'import sys, trimesh; trimesh.creation.icosphere(4, {radius}).export(sys.argv[1] + "/mesh.ply")'


@pytest.fixture
def compared(ball, ball_views, tmp_path):
    """Compares one pipeline with the truth; gives its rows by maker, and the truth's."""

    def compare_one(pipeline, downstream=None):
        rows = compare(ball, ball_views, cut_all(ball_views, {"ours": pipeline}), GRID, tmp_path, downstream)
        return {row.maker: row for row in rows if row.pipeline == "ours"}, next(r for r in rows if r.pipeline == TRUTH)

    return compare_one


def test_perfect_cutouts_make_the_hull_of_the_true_silhouettes(compared, cut_perfectly):
    rows, truth = compared(cut_perfectly)
    assert rows["hull"].measures.hull_volume_iou == pytest.approx(1)
    assert rows["hull"].measures.volume_iou == truth.measures.volume_iou
    assert rows["hull"].measures.hull_chamfer_percent == pytest.approx(0, abs=1e-3)


def test_the_hull_of_a_ball_is_somewhat_larger_than_the_ball(compared, cut_perfectly):
    _, truth = compared(cut_perfectly)
    assert 0.8 < truth.measures.volume_iou < 1
    assert (truth.measures.component_count, truth.true_component_count) == (1, 1)


def test_a_silhouette_without_the_object_empties_the_hull(compared, cut_perfectly, ball_views):
    def cut(image):
        if image != ball_views[2].image:
            return cut_perfectly(image)
        elsewhere = np.full((10, 10, 4), 255, np.uint8)
        return Result(elsewhere, CropBox(0, 0, 10, 10))

    rows, _ = compared(cut)
    assert (rows["hull"].measures.volume_iou, rows["hull"].measures.chamfer_percent) == (0, None)
    assert rows["hull"].measures.vertex_count == 0
    assert rows["hull"].failure == "the silhouettes have no volume in common"


def test_views_in_which_nothing_was_found_are_left_out_and_counted(compared, cut_perfectly, ball_views):
    lost = ball_views[2].image
    rows, _ = compared(lambda image: nothing_found(140, 120) if image == lost else cut_perfectly(image))
    assert rows["hull"].empty_views == 1
    assert rows["hull"].measures.volume_iou > 0.7


def test_a_pipeline_that_never_finds_anything_has_no_mesh(compared):
    rows, _ = compared(lambda _: nothing_found(140, 120))
    assert rows["hull"].failure == "nothing found in any view"
    assert rows["hull"].silhouette_ious == (0,) * 6


def test_a_commands_mesh_is_laid_over_the_shape(compared, cut_perfectly):
    """A sphere of radius 3 around the origin, where the ball has 0.5 and lies off the middle."""
    command = Command(f"{sys.executable} -c '{SPHERE.format(radius=3)}' {{folder}}", 60)
    rows, _ = compared(cut_perfectly, Downstream(command, in_world=False))
    assert rows["downstream"].measures.volume_iou > 0.9
    assert rows["downstream"].measures.chamfer_percent < 0.5


def test_a_mesh_in_the_world_stays_where_it_is(compared, cut_perfectly):
    """Ball of 0.5, off the middle by sqrt(0.0725), inside a sphere of 0.8: 0.5^3 / 0.8^3 of its volume."""
    command = Command(f"{sys.executable} -c '{SPHERE.format(radius=0.8)}' {{folder}}", 60)
    rows, _ = compared(cut_perfectly, Downstream(command, in_world=True))
    assert rows["downstream"].measures.volume_iou == pytest.approx(0.125 / 0.512, rel=0.03)


def test_a_command_that_fails_is_a_row_with_its_reason(compared, cut_perfectly):
    rows, _ = compared(
        cut_perfectly, Downstream(Command(f"{sys.executable} -c 'exit(3)' {{folder}}", 60), in_world=True)
    )
    assert rows["downstream"].failure.startswith("exit status 3")
    assert rows["downstream"].measures.volume_iou == 0


def test_the_page_shows_reasons_as_text(ball, ball_views, cut_perfectly, tmp_path):
    failing = Downstream(Command(f"{sys.executable} -c 'exit(\"<b>no\")' {{folder}}", 60), in_world=True)
    rows = compare(ball, ball_views, cut_all(ball_views, {"ours": cut_perfectly}), GRID, tmp_path, failing)
    write_page(tmp_path / "index.html", "title", summarise(rows), rows)
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;no" in page
    assert "<b>no" not in page
    assert (tmp_path / "ball.jpg").read_bytes().startswith(b"\xff\xd8")
