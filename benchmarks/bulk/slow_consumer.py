"""Memory of a client whose consumer is slow: `python -m benchmarks.bulk.slow_consumer [--seconds N] [--rate R]`.

A producer that never waits offers photos of 1.6 MB to `Client.stream`, and a consumer takes R results a second. Prints
the client's resident memory, and how many images were taken ahead of the consumer, every few seconds: both must stay as
they are once the window is full. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.bulk.transfer import MIB, resident_mib, running_server

import cutstream

OUT: Final = Path("out/bench/slow_consumer.json")
WINDOW: Final = 8
SIDE_PX: Final = 1000
# Small, so that the consumer is slower than the server.
CUTOUT_PX: Final = 64
# After the first window is full and every buffer has been used once.
SETTLED_SECONDS: Final = 5.0
LINE_SECONDS: Final = 5.0
ALLOWED_GROWTH: Final = 0.10


def main() -> None:
    """Measure, print the lines and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="results that the consumer takes a second")
    arguments = parser.parse_args()
    picture = noisy_picture()
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as (target, _):
        samples = measure(target, picture, arguments.seconds, 1 / arguments.rate)
    settled = [memory for seconds, memory, _ in samples if seconds >= SETTLED_SECONDS]
    growth = max(settled) / settled[0] - 1
    print(
        f"window {WINDOW}, images of {len(picture) / MIB:.1f} MiB, {len(samples) / samples[-1][0]:.1f} results a second"
    )
    print(f"most memory after {SETTLED_SECONDS:g} s: {growth:+.1%}; most images ahead: {max(s[2] for s in samples)}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"window": WINDOW, "image_bytes": len(picture), "samples": samples}) + "\n")
    if growth > ALLOWED_GROWTH:
        raise SystemExit(f"the client's memory grew by more than {ALLOWED_GROWTH:.0%}")


def noisy_picture() -> bytes:
    """A square before noise, which JPEG at its best cannot make small."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    noise[..., 2] = 0
    noise[SIDE_PX // 4 : -SIDE_PX // 4, SIDE_PX // 4 : -SIDE_PX // 4, 2] = 255
    return cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def measure(target: str, picture: bytes, seconds: float, pause: float) -> list[tuple[float, float, int]]:
    """Consumes for a while: after each result the seconds so far, the memory in MiB and the images taken ahead."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            # Each is an object of its own, as a real producer's would be.
            yield bytes(bytearray(picture))

    samples = []
    started, next_line = time.monotonic(), 0.0
    with cutstream.Client(target) as client:
        results = client.stream(endless(), window=WINDOW, output_width_px=CUTOUT_PX)
        for consumed in itertools.count(1):
            next(results)
            elapsed = time.monotonic() - started
            samples.append((elapsed, resident_mib(os.getpid()), taken - consumed))
            if elapsed >= next_line:
                next_line += LINE_SECONDS
                memory, ahead = samples[-1][1:]
                print(f"{elapsed:6.1f} s: {memory:.1f} MiB, {consumed} results, {ahead} images ahead")
            if elapsed >= seconds:
                break
            # Results in time, whatever the one before took.
            time.sleep(max(0.0, started + consumed * pause - time.monotonic()))
        results.close()
    return samples


if __name__ == "__main__":
    main()
