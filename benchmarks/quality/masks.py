"""Masks of the real network for any picture, computed once by the embedded Triton's own engine and kept on disk."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cutstream_server.imaging.resample import to_network_input

NETWORK_SIDE_PX: Final = 1024
ENGINE_PYTHON: Final = Path(".venv/triton/bin/python")
WORKER: Final = Path(__file__).with_name("network_worker.py")


@dataclass(frozen=True)
class MaskCache:
    """Computes the network's alpha of an image, or reads it back from an earlier run.

    Attributes:
        model: the ONNX file with the input `image` (uint8) and the output `alpha`.
        folder: where masks are kept; a mask's name depends on the picture and on the model's bytes.
    """

    model: Path
    folder: Path

    def alpha(self, rgb: npt.NDArray[np.uint8], side: int = NETWORK_SIDE_PX) -> npt.NDArray[np.float32]:
        """Return the network's alpha, float32 (side, side) in 0..1, of an image (H, W, 3) stretched to that square."""
        return self.alpha_of_input(to_network_input(rgb, side, side))

    def alpha_of_input(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the network's alpha, float32 (side, side) in 0..1, of its input (1, 3, side, side)."""
        path = self.folder / f"{hashlib.sha256(self._model_digest + image.tobytes()).hexdigest()[:24]}.npy"
        if path.exists():
            kept: npt.NDArray[np.uint16] = np.load(path)
        else:
            kept = np.rint(self._run(image) * 65535).astype(np.uint16)
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(path, kept)
        return kept.astype(np.float32) / np.float32(65535)

    def _run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        side = image.shape[-1]
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(struct.pack("<i", side) + image.tobytes())
        self._worker.stdin.flush()
        answer = self._worker.stdout.read(4 * side * side)
        if len(answer) < 4 * side * side:
            raise RuntimeError("the network's process ended; its reason stands above")
        return np.frombuffer(answer, np.float32).reshape(side, side)

    @cached_property
    def _model_digest(self) -> bytes:
        with self.model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    @cached_property
    def _worker(self) -> subprocess.Popen[bytes]:
        command = [str(ENGINE_PYTHON), str(WORKER), str(self.model)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
