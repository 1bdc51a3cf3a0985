"""Builds from a small network by the command's own path: what is written, when nothing is to do, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from cutstream_server import model_cli
from cutstream_server.segmentation.preparation import build as build_module
from cutstream_server.segmentation.preparation.build import build_model
from cutstream_server.segmentation.preparation.check import Comparison, compare_networks, drawn_picture, load_picture
from cutstream_server.segmentation.preparation.errors import CheckFailedError, UnknownNetworkError
from cutstream_server.segmentation.preparation.network import prepare_network
from cutstream_server.segmentation.preparation.progress import Report
from cutstream_server.segmentation.preparation.registry import load_registry

ISNET = load_registry().models["isnet"].interface


def write_network(path: Path, weight: float = 4.0) -> Path:
    """A network whose mask is the sigmoid of the weighted sum of the channels, in the form of a published one."""
    nodes = [
        helper.make_node("Conv", ["input_image", "w"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["mask"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, 1024, 1024])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 1024, 1024])],
        [numpy_helper.from_array(np.full((1, 3, 1, 1), weight, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def build(tmp_path: Path, report: Report) -> Callable[..., Path]:
    """`build_model` of a file with an unknown hash, as IS-Net, into a repository of the test."""

    def run(source: Path, **options: object) -> Path:
        settings = {"check": False, "allow_unknown_hash": True, "cache": tmp_path / "cache"} | options
        return build_model("isnet", tmp_path / "repository", report, source_file=source, **settings)

    return run


def test_the_model_stands_in_version_1_of_isnet(build: Callable[..., Path], tmp_path: Path) -> None:
    model = build(write_network(tmp_path / "source.onnx"))
    assert model == tmp_path / "repository" / "isnet" / "1" / "model.onnx"
    onnx.checker.check_model(onnx.load(model), full_check=True)


def test_nothing_else_is_left_than_the_model_and_its_record(build: Callable[..., Path], tmp_path: Path) -> None:
    model = build(write_network(tmp_path / "source.onnx"))
    assert sorted(path.name for path in model.parent.iterdir()) == ["build.json", "model.onnx"]


def test_the_model_names_its_source_and_its_hash(build: Callable[..., Path], tmp_path: Path) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(build(write_network(tmp_path / "s"))).metadata_props}
    assert properties["cutstream.source"] == "s"
    assert len(properties["cutstream.source_sha256"]) == 64


def test_a_second_build_of_the_same_source_has_nothing_to_do(build: Callable[..., Path], tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx")
    before = build(source).stat().st_mtime_ns
    assert build(source).stat().st_mtime_ns == before


def test_a_whole_build_needs_no_source(build: Callable[..., Path], tmp_path: Path, report: Report) -> None:
    model = build(write_network(tmp_path / "source.onnx"))
    assert build_model(None, tmp_path / "repository", report, cache=tmp_path / "empty") == model


def test_force_builds_the_same_bytes_again(build: Callable[..., Path], tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx")
    model = build(source)
    before, content = model.stat().st_ino, model.read_bytes()
    build(source, force=True)
    assert model.stat().st_ino != before
    assert model.read_bytes() == content


def test_another_given_source_replaces_the_build(build: Callable[..., Path], tmp_path: Path) -> None:
    content = build(write_network(tmp_path / "first")).read_bytes()
    assert build(write_network(tmp_path / "second", weight=5.0)).read_bytes() != content


def test_a_damaged_model_is_built_again(build: Callable[..., Path], tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx")
    model = build(source)
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    assert build(source).read_bytes() == content


def test_a_model_of_an_older_recipe_is_built_again(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_network(tmp_path / "source.onnx")
    before = build(source).stat().st_ino
    monkeypatch.setattr(build_module, "RECIPE", build_module.RECIPE + 1)
    assert build(source).stat().st_ino != before


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"recipe": 1, "unknown": 2}'])
def test_an_unreadable_record_means_that_it_is_built_again(
    record: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    source = write_network(tmp_path / "source.onnx")
    model = build(source)
    before = model.stat().st_ino
    (model.parent / "build.json").write_text(record)
    assert build(source).stat().st_ino != before


def test_a_source_that_is_no_onnx_file_is_named(build: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a network, whatever its name")
    with pytest.raises(UnknownNetworkError, match="text"):
        build(tmp_path / "text")


def test_the_check_tells_the_difference(build: Callable[..., Path], tmp_path: Path, report: Report) -> None:
    build(write_network(tmp_path / "source.onnx"), check=True)
    assert any("mean" in line and "largest" in line for line in report.lines)


def test_a_failed_check_leaves_the_old_model_in_place(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(write_network(tmp_path / "first"))
    content = model.read_bytes()
    monkeypatch.setattr(
        build_module, "compare_networks", lambda *_: Comparison(0.0011, 0.5, np.zeros((4, 4), np.float32))
    )
    with pytest.raises(CheckFailedError, match=r"1\.10e-03"):
        build(write_network(tmp_path / "second", weight=5.0), check=True)
    assert model.read_bytes() == content
    assert sorted(path.name for path in model.parent.iterdir()) == ["build.json", "model.onnx"]


def test_the_comparison_measures_a_known_difference(tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx", weight=4.0)
    other = onnx.load(write_network(tmp_path / "other.onnx", weight=0.0))
    built = tmp_path / "built.onnx"
    built.write_bytes(prepare_network(other, ISNET, {}).SerializeToString())
    found = compare_networks(source, built, np.full((1024, 1024, 3), 255, np.uint8), ISNET)
    expected = 1 / (1 + np.exp(-4.0 * 3 * 0.5)) - 0.5
    assert found.mean == pytest.approx(expected, abs=1e-5)
    assert found.maximum == pytest.approx(expected, abs=1e-5)


def test_the_drawn_picture_has_the_size_and_the_type_that_the_source_takes() -> None:
    picture = drawn_picture(1024)
    assert (picture.shape, picture.dtype) == ((1024, 1024, 3), np.uint8)


def test_a_photo_of_any_kind_is_loaded_as_a_square_of_rgb(tmp_path: Path) -> None:
    Image.new("L", (40, 20), 200).save(tmp_path / "grey.png")
    picture = load_picture(tmp_path / "grey.png", 1024)
    np.testing.assert_array_equal(picture, np.full((1024, 1024, 3), 200, np.uint8))


def test_the_command_builds_and_says_where(tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx")
    options = ["--repository", str(tmp_path / "repository"), "--skip-check", "--allow-unknown-hash"]
    result = CliRunner().invoke(model_cli.app, ["build", "--source", str(source), *options])
    assert result.exit_code == 0, result.output
    assert "model.onnx" in result.stdout


def test_the_command_refuses_a_file_with_an_unknown_hash(tmp_path: Path) -> None:
    source = write_network(tmp_path / "source.onnx")
    result = CliRunner().invoke(
        model_cli.app, ["build", "--source", str(source), "--repository", str(tmp_path / "repository")]
    )
    assert result.exit_code == 1
    assert "--allow-unknown-hash" in result.stderr
