import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.quality.frame import Result
from benchmarks.reconstruction.downstream import Command, DownstreamError, read_mesh, write_cutouts
from trimesh.creation import icosphere

from cutstream_server.imaging.geometry import CropBox

PYTHON = sys.executable


@pytest.fixture
def cutouts(ball_views):
    return [
        (view.camera, Result(view.truth, CropBox(0, 0, view.truth.shape[1], view.truth.shape[0])))
        for view in ball_views
    ]


def command(code, seconds=60.0):
    return Command(f"{PYTHON} -c '{code}' {{folder}}", seconds)


def test_a_cutout_is_written_as_it_came(cutouts, tmp_path):
    write_cutouts(cutouts, tmp_path)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "03.png"), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    assert np.array_equal(read, cutouts[3][1].rgba)


def test_the_cameras_see_points_where_the_cutouts_show_them(ball_views, tmp_path):
    """A cutout of half the view, shown twice as large across and as high as it was."""
    camera = ball_views[2].camera
    write_cutouts([(camera, Result(np.zeros((60, 140, 4), np.uint8), CropBox(35, 30, 70, 60)))], tmp_path)
    written = json.loads((tmp_path / "cameras.json").read_text())[0]
    point = np.array([0.3, -0.2, 0.5])
    seen = np.array(written["intrinsics"]) @ np.array(written["world_to_camera"]) @ [*point, 1]
    x, y = camera.project(point[np.newaxis])[0]
    assert seen[:2] / seen[2] == pytest.approx([2 * (x - 35), y - 30])
    assert (written["file"], written["width"], written["height"]) == ("00.png", 140, 60)


def test_the_commands_mesh_is_read(cutouts, tmp_path):
    code = 'import sys, trimesh; trimesh.creation.icosphere(2).export(sys.argv[1] + "/mesh.glb")'
    assert len(command(code).run(cutouts, tmp_path).faces) == 320


def test_meshes_of_an_earlier_run_are_removed(cutouts, tmp_path):
    icosphere().export(tmp_path / "mesh.ply")
    with pytest.raises(DownstreamError, match=r"no mesh\.\*"):
        command("pass").run(cutouts, tmp_path)


def test_a_failing_command_says_why(cutouts, tmp_path):
    with pytest.raises(DownstreamError, match="exit status 1: no memory left"):
        command('import sys; sys.exit("no memory left")').run(cutouts, tmp_path)


def test_a_command_that_takes_too_long_is_stopped(cutouts, tmp_path):
    with pytest.raises(DownstreamError, match=r"not done after 0\.2 s"):
        command("import time; time.sleep(60)", seconds=0.2).run(cutouts, tmp_path)


def test_a_command_that_is_not_there_is_named(cutouts, tmp_path):
    with pytest.raises(DownstreamError, match="cannot start no-such-command"):
        Command("no-such-command {folder}", 1.0).run(cutouts, tmp_path)


def test_a_broken_file_is_no_mesh(tmp_path):
    (tmp_path / "mesh.glb").write_bytes(b"glTF, or not")
    with pytest.raises(DownstreamError, match=r"cannot read mesh\.glb"):
        read_mesh(tmp_path)


def test_a_file_of_points_alone_is_no_mesh(tmp_path):
    (tmp_path / "mesh.obj").write_text("v 0 0 0\nv 1 0 0\n")
    with pytest.raises(DownstreamError, match=r"mesh\.obj"):
        read_mesh(tmp_path)


def test_vertices_in_one_place_are_one(tmp_path):
    separate = icosphere(1)
    separate.unmerge_vertices()
    separate.export(tmp_path / "mesh.stl")
    # An icosahedron's 12 vertices and one on each of its 30 edges.
    assert len(read_mesh(tmp_path).vertices) == 42


def test_a_mesh_that_looks_inwards_is_turned_inside_out(tmp_path):
    inverted = icosphere(2)
    inverted.invert()
    inverted.export(tmp_path / "mesh.ply")
    assert read_mesh(tmp_path).volume > 0


def test_the_example_carves_the_ball(cutouts, tmp_path):
    example = Path(__file__).parents[3] / "benchmarks" / "reconstruction" / "example_command.py"
    mesh = Command(f"{PYTHON} {example} {{folder}}", 100.0).run(cutouts, tmp_path)
    # The ball's middle, and a volume a little above its 4/3 pi r^3, for a hull of six views holds more.
    assert mesh.center_mass == pytest.approx([0.2, 0.1, 0.15], abs=0.03)
    assert 1.0 < mesh.volume / (4 / 3 * np.pi * 0.125) < 1.3
