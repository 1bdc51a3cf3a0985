"""Triton's `openvino` backend for the embedded Triton: a Python-based backend that stands in for the native one.

It reads the same `config.pbtxt` as the native backend of the official container: `default_model_filename`, the instance
count, and the parameters TARGET_DEVICE, PERFORMANCE_HINT, NUM_STREAMS, INFERENCE_NUM_THREADS and HINT_BF16. It runs in
Triton's own environment and imports nothing of the server.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import openvino
import triton_python_backend_utils as pb_utils

CACHE = Path(sys.prefix) / "cache"
"""Compiled networks, inside Triton's environment: the next start compiles IS-Net in 0.1 s instead of 0.9."""

_CACHED_PER_MODEL = 3
_PASSED_ON = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
_PRECISIONS = {"YES": "bf16", "NO": "f32"}


class TritonPythonModel:
    """One instance of one model; Triton knows the class and its methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compiles the network; what goes wrong here is the reason that Triton gives for the failed load."""
        config = json.loads(args["model_config"])
        self._request: Any = None
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._network = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        self._cache = CACHE / args["model_name"]
        self._device, self._properties = _engine_settings(config, self._cache)
        compiled = self._compile()
        _drop_old_networks(self._cache)
        name = args["model_instance_name"]
        pb_utils.Logger.log_info(f"{name}: {self._network} on {self._device}, {_describe(compiled)}")

    def _compile(self) -> Any:
        # The stub's Python takes all names of files for ASCII and can hand no others on; as bytes they pass.
        os.chdir(str(self._network.parent).encode())
        self._request = None  # Frees the network before: two of IS-Net take 2 GB.
        compiled = openvino.Core().compile_model(self._network.name, self._device, self._properties)
        self._request = compiled.create_infer_request()
        return compiled

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request on its own: a batch gains nothing on a CPU, and a bad request fails alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
        except Exception as error:  # noqa: BLE001 - whatever it is, this request alone must fail of it
            return _failure(f"the inputs cannot be read: {error}", pb_utils.TritonError.INTERNAL)
        try:
            # The inputs lie in memory shared with Triton, which is theirs until the answer: no copy. The results are
            # copied out of the engine, which writes the next request's over them.
            results = self._request.infer(inputs, share_inputs=True, share_outputs=False)
        except Exception as error:  # noqa: BLE001 - see above
            shapes = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in inputs.items())
            text = f"the network does not run on {shapes}: {error}"
            # OpenVINO 2026.4 refuses, after a size that it could not run, also the one that it ran before: the network
            # is out of order until it is compiled again (0.2 s from the cache).
            self._compile()
            return _failure(text, pb_utils.TritonError.INVALID_ARG)
        tensors = [pb_utils.Tensor(name, results[name]) for name in self._outputs]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _engine_settings(config: dict[str, Any], cache: Path) -> tuple[str, dict[str, str]]:
    """Gives the device and OpenVINO's properties for a model's configuration."""
    parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
    properties = {key: parameters[key] for key in _PASSED_ON if key in parameters}
    if "HINT_BF16" in parameters:
        # Only a wish: the engine computes in f32 on a processor without bf16. Left out, it chooses in the same way.
        properties["INFERENCE_PRECISION_HINT"] = _PRECISIONS[parameters["HINT_BF16"]]
    instances = sum(group["count"] for group in config["instance_group"])
    if instances > 1:
        # Instances know nothing of each other: each would take all cores, and pin its threads to the same ones.
        properties.setdefault("INFERENCE_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // instances)))
        properties["ENABLE_CPU_PINNING"] = "NO"
    if os.access(CACHE.parent, os.W_OK) and str(CACHE).isascii():
        properties["CACHE_DIR"] = str(cache)
    return parameters.get("TARGET_DEVICE", "CPU"), properties


def _drop_old_networks(cache: Path) -> None:
    """Keeps the newest few: a rebuilt IS-Net leaves 176 MB behind each time."""
    networks = sorted(cache.glob("*.blob"), key=lambda file: file.stat().st_mtime)
    for file in networks[:-_CACHED_PER_MODEL]:
        file.unlink(missing_ok=True)


def _describe(compiled: Any) -> str:
    names = ("INFERENCE_PRECISION_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
    return ", ".join(f"{name} {compiled.get_property(name)}" for name in names)


def _failure(text: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
