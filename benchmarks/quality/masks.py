"""Masks of the real network for scenes, computed once by ONNX Runtime and kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from cutstream_server.imaging.resample import to_network_input

NETWORK_SIDE_PX: Final = 1024


@dataclass(frozen=True)
class MaskCache:
    """Computes the network's alpha of an image, or reads it back from an earlier run.

    Attributes:
        model: the ONNX file with the input `image` (uint8) and the output `alpha`.
        folder: where masks are kept; a mask's name depends on the picture and on the model's bytes.
    """

    model: Path
    folder: Path

    def alpha(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the network's alpha, float32 (1024, 1024) in 0..1, of an image (H, W, 3)."""
        image = to_network_input(rgb, NETWORK_SIDE_PX, NETWORK_SIDE_PX)
        path = self.folder / f"{hashlib.sha256(self._model_digest + image.tobytes()).hexdigest()[:24]}.npy"
        if path.exists():
            kept: npt.NDArray[np.uint16] = np.load(path)
        else:
            alpha = self._session.run(["alpha"], {"image": image})[0][0, 0]
            kept = np.rint(alpha.astype(np.float32) * 65535).astype(np.uint16)
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(path, kept)
        return kept.astype(np.float32) / np.float32(65535)

    @cached_property
    def _model_digest(self) -> bytes:
        with self.model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
