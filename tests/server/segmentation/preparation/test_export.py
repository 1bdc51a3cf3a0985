"""Export of a PyTorch network of BiRefNet's kind; without PyTorch, what is said about that."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from typer.testing import CliRunner, Result

from cutstream_server import model_cli
from cutstream_server.segmentation.preparation import export
from cutstream_server.segmentation.preparation.errors import MissingLibraryError, UnknownNetworkError

SIDE = 64
HAVE_TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("onnxscript") is not None
needs_torch = pytest.mark.skipif(not HAVE_TORCH, reason=f"needs PyTorch: {export.INSTALL}")

# An encoder, a decoder that joins maps of two sizes, predictions at three scales of which the last one is the mask.
CODE = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.deep = nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.side = nn.Conv2d(8, 1, 1)
            self.last = nn.Conv2d(19, 1, 3, padding=1)

        def forward(self, x):
            shallow = torch.relu(self.norm(self.down(x)))
            deep = torch.relu(self.deep(shallow))
            like = {"size": x.shape[2:], "mode": "bilinear", "align_corners": True}
            up = [nn.functional.interpolate(map, **like) for map in (shallow, deep)]
            return [self.side(deep), self.side(shallow), self.last(torch.cat([x, *up], 1))]
"""
# BiRefNet's deformable convolutions are torchvision's. Where that is not installed, this stands in for it: the same
# operator with the same schema, computed by sampling, as its paper defines it (arXiv 1811.11168).
STAND_IN = """
    import sys, types
    import torch

    def sampled(x, weight, offset, mask, bias, sh, sw, ph, pw, dh, dw, groups, offset_groups, use_mask):
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
        total = bias.reshape(1, -1, 1, 1).expand(x.shape[0], -1, height, width).clone()
        for k in range(9):
            y = rows + k // 3 - ph + offset[:, 2 * k]
            z = columns + k % 3 - pw + offset[:, 2 * k + 1]
            grid = torch.stack([2 * z / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
            part = torch.nn.functional.grid_sample(x, grid, align_corners=True, padding_mode="zeros")
            total = total + torch.einsum("nchw,oc->nohw", part * mask[:, k : k + 1], weight[:, :, k // 3, k % 3])
        return total

    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "DEF")
        numbers = ", ".join(f"SymInt {n}" for n in "sh sw ph pw dh dw groups offset_groups".split())
        tensors = ", ".join(f"Tensor {n}" for n in "input weight offset mask bias".split())
        library.define(f"deform_conv2d({tensors}, {numbers}, bool use_mask) -> Tensor")
        library.impl("deform_conv2d", sampled, "CPU")
        shaped = lambda x, weight, *_: x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])
        torch.library.register_fake("torchvision::deform_conv2d", shaped, lib=library)
        stand_in = types.ModuleType("torchvision")
        stand_in.library = library
        sys.modules["torchvision"] = stand_in
"""
DEFORMABLE = """
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.offsets = nn.Conv2d(3, 18, 3, padding=1)
            self.modulator = nn.Conv2d(3, 9, 3, padding=1)
            self.regular = nn.Conv2d(3, 2, 3, padding=1)
            self.last = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            mask = 2.0 * torch.sigmoid(self.modulator(x))
            sizes = (1, 1, 1, 1, 1, 1, 1, 1, True)
            convolve, kernel = torch.ops.torchvision.deform_conv2d, self.regular
            return [self.last(convolve(x, kernel.weight, self.offsets(x), mask, kernel.bias, *sizes))]
"""


def exported(folder: Path, code: str = CODE, *, wrapped: bool = False) -> tuple[Result, object]:
    """Exports a network with random weights by the command; gives its result and the network."""
    torch = importlib.import_module("torch")
    torch.manual_seed(4)
    file = folder / "small.py"
    file.write_text(textwrap.dedent(code))
    network = export._made(f"{file}:Small").eval()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    weights = {f"module.{name}" if wrapped else name: value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights} if wrapped else weights, folder / "small.pth")
    arguments = ["export", "birefnet", "--checkpoint", str(folder / "small.pth"), "--code", f"{file}:Small"]
    return CliRunner().invoke(model_cli.app, [*arguments, "--side", str(SIDE)]), network


def answers(network: object, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's last prediction of a random picture, and the exported file's."""
    torch = importlib.import_module("torch")
    picture = np.random.default_rng(8).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(picture))[-1].numpy()
    (found,) = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input_image": picture})
    return expected, found


@needs_torch
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_exported_file_answers_as_the_last_prediction_of_pytorch(wrapped: bool, tmp_path: Path) -> None:
    result, network = exported(tmp_path, wrapped=wrapped)
    assert result.exit_code == 0, result.output
    expected, found = answers(network, tmp_path / "small.onnx")
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_torch
def test_deformable_convolutions_become_onnxs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", sys.modules.copy())  # the stand-in goes with the test
    result, network = exported(tmp_path, textwrap.dedent(STAND_IN) + textwrap.dedent(DEFORMABLE))
    assert result.exit_code == 0, result.output
    expected, found = answers(network, tmp_path / "small.onnx")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert "DeformConv" in {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}


@needs_torch
def test_the_exported_file_is_one_that_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result, _ = exported(tmp_path)
    (command,) = [line for line in result.stdout.splitlines() if line.startswith("next: ")]
    arguments = command.removeprefix("next: cutstream-server model ").removesuffix(" --photo PHOTO").split()
    added = CliRunner().invoke(model_cli.app, arguments)
    assert added.exit_code == 0, added.output
    assert (tmp_path / "model_repository" / "small" / "1" / "model.onnx").is_file()


@needs_torch
def test_a_checkpoint_of_another_network_is_named_with_what_is_missing(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "small.onnx").unlink()
    (tmp_path / "other.py").write_text(textwrap.dedent(CODE).replace("self.side", "self.another"))
    arguments = ["export", "birefnet", "--checkpoint", str(tmp_path / "small.pth"), "--side", str(SIDE)]
    result = CliRunner().invoke(model_cli.app, [*arguments, "--code", f"{tmp_path / 'other.py'}:Small"])
    assert result.exit_code == 1
    assert "another.weight" in result.stderr
    assert not (tmp_path / "small.onnx").exists()


@needs_torch
def test_a_checkpoint_that_would_run_a_program_is_refused(tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    mark = tmp_path / "mark"
    (tmp_path / "small.py").write_text(textwrap.dedent(CODE))

    class Program:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (mark,)

    torch.save({"weights": Program()}, tmp_path / "bad.pth")
    with pytest.raises(UnknownNetworkError, match="no checkpoint of weights"):
        export._load_weights(torch, export._made(f"{tmp_path / 'small.py'}:Small"), tmp_path / "bad.pth")
    assert not mark.exists()


@needs_torch
def test_an_export_that_answers_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    result, _ = exported(tmp_path)
    assert result.exit_code == 1
    assert "differs from PyTorch's" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["small.pth", "small.py"]


@pytest.mark.skipif(HAVE_TORCH, reason="PyTorch is installed here")
def test_without_pytorch_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(model_cli.app, ["export", "birefnet", "--checkpoint", str(tmp_path / "weights.pth")])
    assert result.exit_code == 1
    assert f"needs torch, which the server does without: {export.INSTALL}" in result.stderr


def test_a_library_that_is_missing_is_named_with_what_brings_it() -> None:
    with pytest.raises(MissingLibraryError, match=r"needs no_such_library, .* pip install torch"):
        export._required("no_such_library")


@pytest.mark.parametrize("code", ["nowhere.py:Small", "no_such_module:Small", "json:Small"])
def test_code_that_makes_no_network_is_named(code: str) -> None:
    with pytest.raises(UnknownNetworkError, match=code):
        export._made(code)
