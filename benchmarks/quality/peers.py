"""rembg with the same weights, as a peer: plain, and with its own colour decontamination.

It lives in an environment of its own: `make peers` installs it. Where that is missing, the peers are absent,
not beaten.
Results are kept on disk, since neither rembg nor the scenes change from run to run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.quality.frame import Result
from benchmarks.quality.pipelines import Pipeline

from cutstream_server.imaging.geometry import CropBox
from cutstream_server.segmentation.preparation.registry import load_registry
from cutstream_server.segmentation.preparation.sources import cached_source, default_cache

VERSION: Final = "2.0.86"
ENVIRONMENT: Final = Path(".venv/peers")
KEPT: Final = Path("out/quality/peers")
WORKER: Final = Path(__file__).with_name("rembg_worker.py")
VARIANTS: Final = {"rembg": {}, "rembg_decontaminated": {"decontaminate": True}}


def install() -> None:
    """Makes the peers' environment."""
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", f"rembg[cpu,cli]=={VERSION}"]
    subprocess.run(pip, check=True)


def installed_peers() -> tuple[dict[str, Pipeline], str]:
    """The peers by name, and why there are none."""
    if not (ENVIRONMENT / "bin" / "rembg").exists():
        return {}, f"{ENVIRONMENT} has no rembg; `make peers` installs it"
    source = cached_source(load_registry().models["isnet"], default_cache())
    if source is None:
        return (
            {},
            "the network as published is not in the cache: the model was built from a file or elsewhere",
        )
    rembg = _Rembg(source.path)
    return {name: partial(rembg.remove, variant=name) for name in VARIANTS}, ""


class _Rembg:
    """One rembg in a process of its own; asks it only for what is not on disk."""

    def __init__(self, network: Path) -> None:
        self._network = network

    def remove(self, data: bytes, variant: str) -> Result:
        name = hashlib.sha256(f"rembg {VERSION} {variant}".encode() + data).hexdigest()[:24]
        kept, facts = KEPT / f"{name}.png", KEPT / f"{name}.json"
        if not facts.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            facts.write_text(self._ask(data, variant, kept))
        known = json.loads(facts.read_text())
        left, top, width, height = known["box"]
        rgba = cv2.cvtColor(np.asarray(cv2.imread(str(kept), cv2.IMREAD_UNCHANGED)), cv2.COLOR_BGRA2RGBA)
        return Result(np.asarray(rgba, np.uint8), CropBox(left, top, width, height), known["seconds"])

    def _ask(self, data: bytes, variant: str, kept: Path) -> str:
        image = KEPT / "input.jpg"
        image.write_bytes(data)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(image), str(kept), VARIANTS[variant]]) + "\n")
        self._process.stdin.flush()
        answer: str = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("rembg's process ended; its reason stands above")
        return answer

    @cached_property
    def _process(self) -> subprocess.Popen[str]:
        folder = (KEPT / "home").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        # rembg reads its own models from below this folder only.
        network = folder / self._network.name
        if not network.exists():
            network.symlink_to(self._network)
        command = [str(ENVIRONMENT / "bin" / "python"), str(WORKER), str(network)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "U2NET_HOME": str(folder)},
        )


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Installs rembg into .venv/peers, for `make eval` and `make bench` to compare with."
    ).parse_args()
    install()
