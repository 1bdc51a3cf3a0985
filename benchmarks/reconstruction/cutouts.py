"""Cutouts of views, kept on disk, and their alpha in the frame of the view."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from benchmarks.quality.frame import Result
from benchmarks.quality.pipelines import Pipeline
from benchmarks.reconstruction.views import View

from cutstream_server.imaging.geometry import CropBox

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CutoutCache:
    """Keeps what pipelines made of images.

    Attributes:
        folder: where.
        version: names the code and the network that the pipelines are made of; another version starts anew.
    """

    folder: Path
    version: str

    def keep(self, name: str, pipeline: Pipeline) -> Pipeline:
        """The same pipeline, asked only for images that it was not asked for before."""
        return lambda image: self._recall(name, image, lambda: pipeline(image))

    def _recall(self, name: str, image: bytes, cut: Callable[[], Result]) -> Result:
        key = hashlib.sha256(f"{name} {self.version} ".encode() + image).hexdigest()[:24]
        path = self.folder / f"{name}-{key}.npz"
        if not path.exists():
            made = cut()
            self.folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, rgba=made.rgba, crop=np.array(astuple(made.crop)))
        with np.load(path) as file:
            return Result(file["rgba"], CropBox(*map(float, file["crop"])))


@dataclass(frozen=True)
class CutView:
    """A view and what a pipeline cut out of it."""

    view: View
    result: Result

    @cached_property
    def seen(self) -> Floats:
        """The cutout in the frame of the view: (H, W, 4) in 0..1, premultiplied."""
        height, width = self.view.truth.shape[:2]
        return in_view(self.result, width, height)

    @property
    def alpha(self) -> Floats:
        """Its alpha, (H, W)."""
        return self.seen[..., 3]

    @property
    def true_alpha(self) -> Floats:
        """The alpha that it should have, (H, W)."""
        return self.view.truth[..., 3].astype(np.float32) / np.float32(255)

    @property
    def found(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.alpha.max() > 0.5)

    @property
    def silhouette_iou(self) -> float:
        """Intersection over union of where the alpha and the true one are above one half."""
        ours, wanted = self.alpha > 0.5, self.true_alpha > 0.5
        return float(np.count_nonzero(ours & wanted) / np.count_nonzero(ours | wanted))


def true_result(view: View) -> Result:
    """The cutout that no pipeline could better: the truth itself, the whole frame as its crop."""
    height, width = view.truth.shape[:2]
    return Result(view.truth, CropBox(0, 0, width, height))


def version_of(*folders_and_files: Path) -> str:
    """A digest of some files and of all Python files in some folders."""
    digest = hashlib.sha256()
    for path in folders_and_files:
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def in_view(result: Result, width: int, height: int) -> Floats:
    """Bring a cutout back into the view that it was cut from.

    Args:
        result: what a pipeline made.
        width: of the view, in pixels.
        height: of the view, in pixels.

    Returns:
        (height, width, 4) float32 in 0..1, premultiplied; transparent outside of the result's crop.
    """
    planes = result.rgba.astype(np.float32) / np.float32(255)
    planes[..., :3] *= planes[..., 3:]
    rows, columns = planes.shape[:2]
    step_x, step_y = columns / result.crop.width, rows / result.crop.height
    # The middle of the view's pixel i is at i + 0.5, that of the cutout's pixel j at j + 0.5.
    to_cutout = np.array(
        [
            [step_x, 0, (0.5 - result.crop.left) * step_x - 0.5],
            [0, step_y, (0.5 - result.crop.top) * step_y - 0.5],
        ]
    )
    seen = cv2.warpAffine(
        planes,
        to_cutout,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return np.clip(np.asarray(seen, np.float32), 0, 1)
