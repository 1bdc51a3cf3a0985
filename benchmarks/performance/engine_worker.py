"""Runs networks on bare OpenVINO, in the embedded Triton's environment, which holds the engine: no Triton, no service.

Reads lines of JSON from standard input and answers each with one:

- {"network", "precision", "threads", "instances", "sides", "batch", "images"} -> {"seconds"}: wall seconds of each
  round, in which every instance answers one batch for each side, all instances at once;
- {"gemm", "precision"} -> {"gflops"}: the best of some products of square matrices of that side, with all threads.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
import openvino

GEMM_RUNS = 6
compiled: dict[str, list[Any]] = {}
warm: set[tuple[object, ...]] = set()
"""Networks with sides and batch that have run: the first run prepares their kernels, and is not timed."""


def key_of(order: dict[str, Any]) -> str:
    """Tell apart what is compiled on its own."""
    return json.dumps([order["network"], order["precision"], order["threads"], order["instances"]])


def requests_of(order: dict[str, Any]) -> list[Any]:
    """Give one inference request for each instance; what was compiled before is kept."""
    key = key_of(order)
    if key not in compiled:
        properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        if order["precision"] != "int8":  # of which the rest runs as the processor likes it
            properties["INFERENCE_PRECISION_HINT"] = order["precision"]
        if order["threads"]:
            properties |= {"INFERENCE_NUM_THREADS": str(order["threads"])}
        if order["instances"] > 1:
            properties |= {"ENABLE_CPU_PINNING": "NO"}
        cores = [openvino.Core() for _ in range(order["instances"])]
        networks = [core.compile_model(order["network"], "CPU", properties) for core in cores]
        compiled[key] = [network.create_infer_request() for network in networks]
    return compiled[key]


def timed(order: dict[str, Any]) -> dict[str, list[float]]:
    """Run the rounds."""
    random = np.random.default_rng(0)
    inputs = [random.integers(0, 256, (order["batch"], 3, side, side), dtype=np.uint8) for side in order["sides"]]
    requests = requests_of(order)

    def one(request: Any) -> None:
        for picture in inputs:
            request.infer([picture], share_inputs=True, share_outputs=True)

    seconds = []
    known = (key_of(order), *order["sides"], order["batch"])
    for _ in range(order["images"] + (known not in warm)):
        threads = [threading.Thread(target=one, args=(request,)) for request in requests]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds.append(time.perf_counter() - began)
    warm.add(known)
    return {"seconds": seconds[-order["images"] :]}


def gemm(order: dict[str, Any]) -> dict[str, float]:
    """Multiply."""
    side, opset = order["gemm"], openvino.opset13
    left, right = (opset.parameter([side, side], np.float32) for _ in range(2))
    model = openvino.Model([opset.matmul(left, right, False, False)], [left, right])
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": order["precision"]}
    request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
    matrices = [np.random.default_rng(0).standard_normal((side, side), np.float32) for _ in range(2)]
    best = float("inf")
    for _ in range(GEMM_RUNS):
        began = time.perf_counter()
        request.infer(matrices, share_inputs=True, share_outputs=True)
        best = min(best, time.perf_counter() - began)
    return {"gflops": 2 * side**3 / best / 1e9}


for line in sys.stdin:
    order = json.loads(line)
    answer = gemm(order) if "gemm" in order else timed(order)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
