"""`cutstream-server model export`: a PyTorch network of BiRefNet's kind becomes an ONNX file that `model add` takes.

The network takes a normalised picture [N, 3, H, W] and gives logits [N, 1, H, W], or a list of predictions of which the
last one is that: what the code that `transformers` loads for BiRefNet does. PyTorch is needed for this alone and is not
among the server's dependencies: it is larger than all of them together.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .errors import CheckFailedError, MissingLibraryError, UnknownNetworkError
from .progress import Report

ARCHITECTURES: Mapping[str, str] = {"birefnet": "ZhengPeng7/BiRefNet"}
"""Where `transformers` finds the code of a kind of network."""

OPSET = 19
"""The first one with deformable convolutions, which BiRefNet has."""

LARGEST_DIFFERENCE = 1e-3
"""Between PyTorch's alpha and ONNX Runtime's. Both compute in float32: 1e-6 is usual, a lost layer gives over 0.01."""

INSTALL = (
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu && "
    "pip install onnxscript safetensors transformers"
)
"""Tried with PyTorch 2.13 and onnxscript 0.7. An extra of the distribution would bring all of CUDA into its lock."""

INPUT_NAME, OUTPUT_NAME = "input_image", "output_image"
_WRAPPED_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_NESTED_KEYS = ("state_dict", "model")
_SEED = 0


def export_network(
    architecture: str, checkpoint: Path, target: Path, report: Report, *, code: str | None, side: int
) -> float:
    """Export a network with the weights of a checkpoint, and compare what ONNX Runtime makes of it with PyTorch.

    Args:
        architecture: one of `ARCHITECTURES`.
        checkpoint: its weights: a state dict of `torch.save`, or a safetensors file.
        target: where the ONNX file is written; it appears only when it answers as PyTorch does.
        report: told what happens.
        code: what makes the network: `FILE.py:NAME` or `module:NAME` for something that is called without arguments,
            else a folder or a repository for `transformers`, which runs the code in it; None takes the architecture's.
        side: of the square that the network is to take, in pixels.

    Returns:
        The largest difference of the two masks, after the sigmoid.

    Raises:
        MissingLibraryError: PyTorch or what the code needs is not installed.
        UnknownNetworkError: the code makes no network, the checkpoint is not one of it, or it cannot be exported.
        CheckFailedError: the two answer differently.
    """
    torch = _required("torch")
    if architecture not in ARCHITECTURES:
        raise UnknownNetworkError(f"no architecture {architecture!r} here; there are: {', '.join(ARCHITECTURES)}")
    report.say(f"loading {checkpoint}")
    network = _made(code or ARCHITECTURES[architecture])
    _load_weights(torch, network, checkpoint)
    wrapped = _last_prediction(torch, network.eval())
    part = target.with_name(f".{target.name}.part.onnx")
    try:
        report.say("exporting")
        _export(torch, wrapped, part, side)
        difference = _difference(torch, wrapped, part, side)
        if difference > LARGEST_DIFFERENCE:
            raise CheckFailedError(
                f"the exported network's mask differs from PyTorch's by up to {difference:.2e}; "
                f"{LARGEST_DIFFERENCE:.0e} is allowed"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    report.say(f"wrote {target}; largest difference from PyTorch's mask: {difference:.2e}")
    return difference


def _required(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"exporting needs {error.name or name}, which the server does without: {INSTALL}"
        ) from error


def _made(code: str) -> Any:
    """Make a network from its code."""
    place, separator, name = code.rpartition(":")
    if not separator:
        auto = _required("transformers")
        config = auto.AutoConfig.from_pretrained(code, trust_remote_code=True)
        return auto.AutoModelForImageSegmentation.from_config(config, trust_remote_code=True)
    try:
        return getattr(_module(place), name)()
    except (ImportError, AttributeError, OSError, SyntaxError, TypeError) as error:
        raise UnknownNetworkError(f"{code} makes no network: {error}") from error


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _load_weights(torch: Any, network: Any, checkpoint: Path) -> None:
    """Put the checkpoint's weights into the network, all of them and nothing else.

    Only weights are read: a checkpoint in Python's pickle format may not bring programs along.
    """
    try:
        if checkpoint.suffix == ".safetensors":
            weights = _required("safetensors.torch").load_file(checkpoint)
        else:
            weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except MissingLibraryError:
        raise
    except Exception as error:  # each format has its own
        raise UnknownNetworkError(f"{checkpoint} is no checkpoint of weights: {error}") from error
    for key in _NESTED_KEYS:
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict):
        raise UnknownNetworkError(f"{checkpoint} holds a {type(weights).__name__}, and a state dict is wanted")
    try:
        network.load_state_dict({_unwrapped(name): value for name, value in weights.items()})
    except RuntimeError as error:
        raise UnknownNetworkError(f"{checkpoint} is not of this network: {error}") from error


def _unwrapped(name: str) -> str:
    for prefix in _WRAPPED_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _last_prediction(torch: Any, network: Any) -> Any:
    """Return a network that gives the last one of the predictions."""

    class LastPrediction(torch.nn.Module):  # type: ignore[misc]  # the base is imported here
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, picture: Any) -> Any:
            predictions = self.network(picture)
            return predictions[-1] if isinstance(predictions, list | tuple) else predictions

    return LastPrediction().eval()


def _export(torch: Any, network: Any, target: Path, side: int) -> None:
    """Write the ONNX file; its weights lie inside it."""
    picture = torch.zeros(1, 3, side, side)
    try:
        torch.onnx.export(
            network,
            (picture,),
            target,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            custom_translation_table=_translations(torch),
            verbose=False,
        )
    except ImportError as error:
        raise MissingLibraryError(f"exporting needs {error.name}, which the server does without: {INSTALL}") from error
    except Exception as error:  # the exporter's own classes change with its version; the operator is in the text
        raise UnknownNetworkError(f"PyTorch cannot export the network: {error}") from error


def _translations(torch: Any) -> dict[Any, Callable[..., Any]]:
    """Return what PyTorch's exporter has no ONNX operator for, where the network's code has brought torchvision."""
    if "torchvision" not in sys.modules:
        return {}
    from .deformable import deformable_convolution  # noqa: PLC0415 - needs what exporting needs

    return {torch.ops.torchvision.deform_conv2d.default: deformable_convolution}


def _difference(torch: Any, network: Any, exported: Path, side: int) -> float:
    picture = np.random.default_rng(_SEED).normal(size=(1, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(picture))).numpy()
    try:
        session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
        (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: picture})
    except Exception as error:  # ONNX Runtime has a class for each of its codes, and no common one
        raise CheckFailedError(f"ONNX Runtime does not run the exported network: {error}") from error
    return float(np.abs(1 / (1 + np.exp(-logits.astype(np.float64))) - expected).max())
