"""A loop over a peer, in an environment of its own: `rembg` or plain `onnxruntime`, image bytes to PNG bytes.

Usage: peer_worker.py rembg|onnxruntime NETWORK. Reads a line with an image's path and a number of runs, again and
again, and answers with a line of JSON: the seconds of each run.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIDE_PX = 1024


def with_rembg(network: str) -> Callable[[bytes], bytes]:
    """Give what rembg's users call, with the published network."""
    from rembg import new_session, remove  # noqa: PLC0415 - the other peer's environment has no rembg

    session = new_session("dis_custom", model_path=network)
    return lambda data: remove(data, session=session)


def with_onnxruntime(network: str) -> Callable[[bytes], bytes]:
    """Give the loop that one writes first: Pillow, the served network, Pillow."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])

    def remove(data: bytes) -> bytes:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        small = np.asarray(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))
        (alpha,) = session.run(None, {"image": np.ascontiguousarray(small.transpose(2, 0, 1)[None])})
        mask = Image.fromarray(np.rint(255 * alpha[0, 0]).astype(np.uint8))
        picture.putalpha(mask.resize(picture.size, Image.Resampling.BILINEAR))
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    return remove


remove = {"rembg": with_rembg, "onnxruntime": with_onnxruntime}[sys.argv[1]](sys.argv[2])
for line in sys.stdin:
    path, runs = line.rsplit(maxsplit=1)
    data, seconds = Path(path).read_bytes(), []
    for _ in range(int(runs)):
        began = time.perf_counter()
        remove(data)
        seconds.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps(seconds) + "\n")
    sys.stdout.flush()
