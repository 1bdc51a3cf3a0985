"""Runs the network for `masks.Network`, in the embedded Triton's environment, which holds its engine.

Reads a side (4 bytes, little-endian) and (3, side, side) uint8 from standard input, again and again, and writes
(side, side) float32 alpha.
"""

import struct
import sys

import numpy as np
import openvino

network = openvino.Core().compile_model(sys.argv[1], "CPU", {"PERFORMANCE_HINT": "LATENCY"})
while header := sys.stdin.buffer.read(4):
    (side,) = struct.unpack("<i", header)
    pixels = np.frombuffer(sys.stdin.buffer.read(3 * side * side), np.uint8).reshape(1, 3, side, side)
    sys.stdout.buffer.write(np.ascontiguousarray(network(pixels)[0], np.float32).tobytes())
    sys.stdout.buffer.flush()
