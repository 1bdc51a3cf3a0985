"""Times IS-Net in torch, in the environment that has torch: engine.py DEVICE SIDE SECONDS BATCH...; prints JSON."""

from __future__ import annotations

import json
import sys
import time

import torch
from network import GMAC, random_isnet
from torch import Tensor

WARM_UP_RUNS = 3
SIDE_OF_GMAC = 1024


@torch.inference_mode()
def main(device: str, side: int, seconds: float, batches: list[int]) -> list[dict[str, float]]:
    """Give images and TFLOP a second by batch, and the memory that the device holds."""
    torch.backends.cudnn.benchmark = True
    network, rows = random_isnet(device), []
    for batch in batches:
        image = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device)
        for _ in range(WARM_UP_RUNS):
            network(image)
        run = graph_of(network, image).replay if device == "cuda" else lambda image=image: network(image)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            done += batch
        rate = done / (time.perf_counter() - began)
        tflops = 2 * GMAC * (side / SIDE_OF_GMAC) ** 2 * rate / 1000
        held = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
        rows.append({"batch": batch, "images/s": rate, "TFLOP/s": tflops, "MiB of the device": held})
    return rows


def graph_of(network: torch.nn.Module, image: Tensor) -> torch.cuda.CUDAGraph:
    """Record one run."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(image)
    return graph


if __name__ == "__main__":
    device, side, seconds, *batches = sys.argv[1:]
    sys.stdout.write(json.dumps(main(device, int(side), float(seconds), [int(batch) for batch in batches])))
