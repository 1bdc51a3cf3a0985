"""A model of Triton's Python backend: IS-Net in torch on a GPU, each batch and size recorded once as a CUDA graph.

Tensors come and go by DLPack, which works with every numpy. Without a GPU it runs on the CPU, to check the script.
"""

from __future__ import annotations

from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from network import random_isnet  # put beside this file by benchmarks/gpu/measure.py
from torch.utils.dlpack import from_dlpack, to_dlpack

WARM_UP_RUNS = 3


class Recorded:
    """The network for one shape: a CUDA graph with its own input and output."""

    def __init__(self, network: Any, shape: torch.Size) -> None:
        self.image = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # cuDNN looks for its kernels, which cannot be recorded
            for _ in range(WARM_UP_RUNS):
                network(self.image)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._alpha = network(self.image)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Run it; the result is overwritten by the next run."""
        self.image.copy_(image, non_blocking=True)
        self._graph.replay()
        return self._alpha


class TritonPythonModel:
    """One instance; Triton knows the class and its methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Makes the network; the graphs are recorded when their shape comes first, in Triton's warm-up."""
        del args
        self._cuda = torch.cuda.is_available()
        torch.backends.cudnn.benchmark = True
        self._network = random_isnet("cuda" if self._cuda else "cpu")
        self._recorded: dict[torch.Size, Recorded] = {}

    @torch.inference_mode()
    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers what Triton's scheduler has put together, as one batch for each size."""
        images = [from_dlpack(pb_utils.get_input_tensor_by_name(one, "image").to_dlpack()) for one in requests]
        masks: list[torch.Tensor | None] = [None] * len(images)
        for size in {image.shape[2:] for image in images}:
            numbers = [number for number, image in enumerate(images) if image.shape[2:] == size]
            alphas = self._run(torch.cat([images[number] for number in numbers])).cpu()
            parts = alphas.split([len(images[number]) for number in numbers])
            for number, part in zip(numbers, parts, strict=True):
                masks[number] = part.contiguous()
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor.from_dlpack("alpha", to_dlpack(mask))])
            for mask in masks
        ]

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        if not self._cuda:
            return self._network(batch)
        if batch.shape not in self._recorded:
            self._recorded[batch.shape] = Recorded(self._network, batch.shape)
        return self._recorded[batch.shape](batch)
