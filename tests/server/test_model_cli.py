"""The commands `cutstream-server model ...` on small networks of the test."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from synthetic_networks import REGISTRY, network
from typer.testing import CliRunner, Result

from cutstream_server import model_cli

TOLD = ["--side", "64", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def model(*arguments: object) -> Result:
    return CliRunner().invoke(model_cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A network like none of the registry, whose output is logits."""
    file = tmp_path / "mine.onnx"
    onnx.save(network(64, sigmoid_inside=False), file)
    return file


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def error_of(result: Result) -> str:
    """The one line of a clear error."""
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    return line


def test_the_list_shows_every_network_with_its_licence() -> None:
    result = model("list")
    for name in REGISTRY:
        assert name in result.stdout
    assert "CC-BY-NC-4.0" in result.stdout


def test_a_network_is_shown_with_norms_terms_and_hashes() -> None:
    result = model("show", "rmbg-2.0")
    for part in ("forbidden", "0.485, 0.456, 0.406", "5b486f08200f513f", "1024"):
        assert part in result.stdout


def test_a_network_that_nobody_knows_cannot_be_shown() -> None:
    assert "no model 'unknown'" in error_of(model("show", "unknown"))


def test_an_added_network_is_listed_shown_and_checked(mine: Path) -> None:
    result = model("add", mine, *TOLD, "--activation", "sigmoid", "--licence", "MIT")
    assert result.exit_code == 0, result.output
    assert "mine" in model("list").stdout
    assert "mine.onnx, licence MIT" in " ".join(model("show", "mine").stdout.split())
    assert "as it was built" in model("check", "mine").stdout


def test_adding_writes_the_mask_of_the_photo_as_a_picture(mine: Path, tmp_path: Path) -> None:
    # Red on the left, black on the right: logits of 3.6 - 1.7 - 0.2 and of -1.8.
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[:, :32, 0] = 255
    Image.fromarray(photo).save(tmp_path / "photo.png")
    result = model("add", mine, *TOLD, "--activation", "sigmoid", "--photo", "photo.png", "--mask", "mask.png")
    assert result.exit_code == 0, result.output
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for column, colour in ((0, (1.0, 0.0, 0.0)), (63, (0.0, 0.0, 0.0))):
        logit = ((np.array(colour) - means) / deviations) @ np.array([0.9, -0.6, 0.4]) - 0.2
        assert mask[5, column] == pytest.approx(255 / (1 + np.exp(-logit)), abs=1)


def test_a_network_is_added_like_one_of_the_registry(tmp_path: Path) -> None:
    onnx.save(REGISTRY["u2netp"].model, tmp_path / "other.onnx")
    assert model("add", "other.onnx", "--like", "u2netp", "--name", "other-2").exit_code == 0
    assert "0.485, 0.456, 0.406" in model("show", "u2netp").stdout
    assert entries(tmp_path / "model_repository") == ["other-2"]


def test_logits_that_are_taken_for_a_mask_are_noticed(mine: Path, tmp_path: Path) -> None:
    assert "does it need the activation sigmoid?" in error_of(model("add", mine, *TOLD))
    assert not (tmp_path / "model_repository").exists()


def test_what_was_not_told_is_named(mine: Path) -> None:
    assert "--mean, --std must be told, or --like NAME" in error_of(model("add", mine, "--side", "64"))


def test_what_was_not_told_is_asked_for_on_a_terminal(mine: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("cutstream-server"), "model", "add", mine.name]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.write(ours, b"64\n0.485,0.456,0.406\n0.229,0.224,0.225\nsigmoid\n")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "Activation" in output
    assert entries(tmp_path / "model_repository") == ["mine"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["--mean", "0.5,half,0.5"], "mean.1"),
        (["--std", "0"], "greater than 0"),
        (["--std", "1,1"], "std.2"),
        (["--activation", "softmax"], "'none', 'sigmoid' or 'min-max'"),
        (["--activation", "min-max"], "output_range"),
        (["--name", "Mine!"], "lower-case letters"),
        (["--name", ".."], "lower-case letters"),
        (["--output", "7"], "no output 7"),
        (["--like", "nothing"], "no model 'nothing'"),
    ],
)
def test_a_wrong_answer_is_one_clear_error_and_leaves_nothing(
    told: list[str], message: str, mine: Path, tmp_path: Path
) -> None:
    assert message in error_of(model("add", mine, *TOLD, *told))
    assert entries(tmp_path) == ["mine.onnx"]


def test_a_name_that_is_taken_is_refused(mine: Path) -> None:
    model("add", mine, *TOLD, "--activation", "sigmoid")
    assert "has a model 'mine'" in error_of(model("add", mine, *TOLD, "--activation", "sigmoid"))


def test_a_licence_that_forbids_commercial_use_is_to_be_accepted_first(tmp_path: Path) -> None:
    source = tmp_path / "rmbg.onnx"
    onnx.save(REGISTRY["rmbg-2.0"].model, source)
    options = ("--source", source, "--allow-unknown-hash", "--skip-check")
    assert "--accept-licence" in error_of(model("build", "rmbg-2.0", *options))
    assert entries(tmp_path) == ["rmbg.onnx"]
    assert model("build", "rmbg-2.0", *options, "--accept-licence").exit_code == 0


def two_inputs() -> onnx.ModelProto:
    made = network(64, sigmoid_inside=True)
    made.graph.input.append(onnx.helper.make_tensor_value_info("trimap", onnx.TensorProto.FLOAT, [1, 1, 64, 64]))
    return made


def no_picture() -> onnx.ModelProto:
    made = network(64, sigmoid_inside=True)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (two_inputs().SerializeToString(), "2 inputs"),
        (no_picture().SerializeToString(), "takes no picture"),
        (network(64, sigmoid_inside=True).SerializeToString()[:-7], "cut off"),
        (b"no network", "no ONNX network"),
        (b"", "no ONNX network"),
    ],
    ids=["two inputs", "no picture", "cut off", "text", "empty"],
)
def test_a_file_that_is_no_such_network_is_one_clear_error_and_leaves_nothing(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file.onnx").write_bytes(content)
    assert message in error_of(model("add", "file.onnx", *TOLD))
    assert entries(tmp_path) == ["file.onnx"]


def test_a_file_with_another_hash_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    onnx.save(REGISTRY["u2netp"].model, tmp_path / "u2netp.onnx")
    assert "SHA-256" in error_of(model("build", "u2netp", "--source", "u2netp.onnx"))
    assert entries(tmp_path) == ["u2netp.onnx"]


def test_a_model_that_is_removed_is_gone_with_its_folder(mine: Path, tmp_path: Path) -> None:
    model("add", mine, *TOLD, "--activation", "sigmoid")
    assert model("remove", "mine").exit_code == 0
    assert entries(tmp_path / "model_repository") == []


@pytest.mark.parametrize("name", ["mine", "..", "/tmp"])
def test_what_is_no_model_is_not_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / "model_repository").mkdir()
    assert "has no model" in error_of(model("remove", name))


def test_a_damaged_model_does_not_pass_the_check(mine: Path, tmp_path: Path) -> None:
    model("add", mine, *TOLD, "--activation", "sigmoid")
    file = tmp_path / "model_repository" / "mine" / "1" / "model.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    assert "is not the file that was built" in error_of(model("check"))
