"""What the benchmarks work on: a photo of any size, a drawn mask, and a pipeline that lacks only the network."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from examples.photos import photo_path

from cutstream_server.budget import Budget
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.header import ImageLimits
from cutstream_server.imaging.presets import PRESETS_BY_NAME
from cutstream_server.options import OptionResolver, Options
from cutstream_server.pipeline import Pipeline
from cutstream_server.report import ImageReport, Stage
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.connection import Prediction
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.segmenter import NETWORK_SIDE_PX, Segmenter
from cutstream_server.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

PHOTO: Final = "coffee"
# Enlarging leaves a photo too smooth: without a sensor's noise its JPEG would be a third of a camera's, and faster.
NOISE_SIGMA: Final = 4.0
JPEG_QUALITY: Final = 92
SEED: Final = 20261123
# Around the longest strands, whose faint ends are no object: the box at the default threshold is 1250 px high, and the
# default padding of 0.2 makes a crop of 1500 px of it.
STRANDS_DIAMETER_PX: Final = 1290
MASK_SOURCE: Final = (2048, 1536)
STRANDS: Final = 120
# The network's edges are some pixels of its own grid wide.
EDGE_SIGMA_PX: Final = 2.5
IMAGE_SECONDS: Final = 60.0
MAX_PIXELS: Final = 64_000_000


def photo_jpeg(width: int, height: int) -> bytes:
    """Make a JPEG of scikit-image's photo of a coffee cup, enlarged to `width` x `height` px, with noise."""
    small = cv2.imread(str(photo_path(PHOTO)))
    if small is None:
        raise FileNotFoundError(f"OpenCV cannot read {photo_path(PHOTO)}")
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.float32(NOISE_SIGMA) * np.random.default_rng(SEED).standard_normal(large.shape, np.float32)
    noisy = np.clip(np.rint(large + noise), 0, 255).astype(np.uint8)
    written, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written
    return data.tobytes()


def masked_jpeg(width: int, height: int) -> bytes:
    """Make a JPEG of that photo whose red channel is the mask of an object, which is what the tiny network sees."""
    photo = cv2.imdecode(np.frombuffer(photo_jpeg(width, height), np.uint8), cv2.IMREAD_COLOR)
    assert photo is not None
    photo[..., 2] = np.rint(255 * cv2.resize(drawn_alpha(), (width, height), interpolation=cv2.INTER_LINEAR))
    written, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written
    return data.tobytes()


def drawn_alpha() -> npt.NDArray[np.float32]:
    """Draw a furry body with a soft edge, seen in a 4 : 3 image: float32 (1024, 1024) in 0..1, as the network gives it.

    In a 2048 x 1536 source its box is 1250 px high. 2.8 percent of the map are soft, with an alpha of 0.1 to 0.9.
    """
    width, height = MASK_SOURCE
    canvas = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(SEED)
    middle = np.array([width / 2, height / 2])
    reach = STRANDS_DIAMETER_PX / 2
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    around = np.stack([0.9 * np.cos(angles), np.sin(angles)], axis=1)
    radius = 0.86 + 0.05 * np.sin(5 * angles) + 0.02 * np.sin(13 * angles)
    body = middle + reach * radius[:, np.newaxis] * around
    cv2.fillPoly(canvas, [np.rint(body).astype(np.int32)], 255, cv2.LINE_AA)
    for start in rng.choice(len(angles), STRANDS):
        tip = middle + reach * rng.uniform(0.9, 0.99) * around[(start + rng.integers(-8, 9)) % len(angles)]
        ends = np.rint([body[start], tip]).astype(int)
        thickness = int(rng.integers(2, 7))
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), 255, thickness, cv2.LINE_AA)
    soft = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), EDGE_SIGMA_PX)
    return np.asarray(cv2.resize(soft, (NETWORK_SIDE_PX, NETWORK_SIDE_PX), interpolation=cv2.INTER_AREA), np.float32)


class DrawnNetwork:
    """Stands where the service has its `TritonClient`: takes the network's input and has the answer already."""

    def __init__(self, alpha: npt.NDArray[np.float32]) -> None:
        self._prediction = Prediction(alpha[np.newaxis, np.newaxis], version="1")

    async def infer(self, model: str, image: npt.NDArray[np.uint8], **_call: object) -> Prediction:
        """Answer at once."""
        del model, image
        return self._prediction


class MeasuredWorkers(Workers):
    """One worker thread that also measures the CPU time of each stage, which other programs' load hardly moves."""

    def __init__(self) -> None:
        super().__init__(1)
        self.cpu_seconds: dict[Stage, float] = defaultdict(float)

    async def run(
        self, report: ImageReport, stage: Stage, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function as `Workers` does."""

        def measured() -> T:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.cpu_seconds[stage] += time.thread_time() - start

        return await super().run(report, stage, measured)


def pipeline_without_network(workers: Workers) -> Pipeline:
    """Build the service's pipeline and segmenter, in which the drawn alpha takes the network's place."""
    network: Any = DrawnNetwork(drawn_alpha())
    # The service has it done in another process, at the same cost: benchmarks/robustness/isolation.py.
    return Pipeline(
        Segmenter(network, workers, ModelCatalog({"isnet": ModelRules()})),
        workers,
        lambda data, header: decode_image(data, max_pixels=header.pixels),
        limits=ImageLimits(MAX_PIXELS, MAX_PIXELS, max_frames=1),
        decoded=Budget(1, MAX_PIXELS),
    )


def resolve(values: Mapping[str, object]) -> Options:
    """Complete an image's options as the service does it without any environment."""
    return OptionResolver(PRESETS_BY_NAME, {}, IMAGE_SECONDS).resolve(values)
