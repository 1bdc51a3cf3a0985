"""The pipelines that are compared, each a function from an encoded image to a `Result`.

Example:
    with served_pipelines(("fast", "quality")) as pipelines:
        result = pipelines["quality"](Path("photo.jpg").read_bytes())
        result.rgba  # (518, 518, 4) uint8, straight colour
        result.crop  # the part of the source that it shows, in source pixels
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.quality import before
from benchmarks.quality.frame import Result, nothing_found
from benchmarks.quality.masks import MaskCache
from examples.demo import OUT as SERVER_LOG
from examples.demo import running_server

import cutstream
from cutstream_server.budget import Budget
from cutstream_server.errors import CutstreamError
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.geometry import CropBox, Size
from cutstream_server.imaging.header import ImageLimits
from cutstream_server.imaging.presets import PRESETS_BY_NAME
from cutstream_server.options import OptionResolver
from cutstream_server.pipeline import Pipeline as ServicePipeline
from cutstream_server.report import ImageReport
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.connection import Prediction
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.segmenter import Segmenter
from cutstream_server.workers import Workers, limit_library_threads

Pipeline = Callable[[bytes], Result]

PROFILES: Final = ("fast", "balanced", "quality")
BEFORE: Final = "before"
MODEL: Final = Path("model_repository/isnet/1/model.onnx")
MASKS: Final = Path("out/quality/masks")
MAX_PIXELS: Final = 64_000_000
IMAGE_SECONDS: Final = 600.0
SIXTEEN_BITS: Final = np.float32(65535)


@contextmanager
def served_pipelines(profiles: Sequence[str] = PROFILES, target: str | None = None) -> Iterator[Mapping[str, Pipeline]]:
    """The first pipeline and the service's profiles, over gRPC to the server at `target`, or to one started for it."""
    if target is None:
        SERVER_LOG.mkdir(parents=True, exist_ok=True)
        with running_server() as started, served_pipelines(profiles, started) as pipelines:
            yield pipelines
        return
    with cutstream.Client(target) as client:
        yield {
            BEFORE: partial(_served_before, client),
            **{profile: partial(_served, client, profile) for profile in profiles},
        }


@contextmanager
def local_pipelines(profiles: Sequence[str] = PROFILES) -> Iterator[Mapping[str, Pipeline]]:
    """The same in this process, the network's answers kept on disk: the service's code for tuning, not its times."""
    limit_library_threads()
    cache, workers = MaskCache(MODEL, MASKS), Workers(1)
    service = ServicePipeline(
        Segmenter(_CachedTriton(cache), workers, ModelCatalog({"isnet": ModelRules()})),  # type: ignore[arg-type]
        workers,
        lambda data, header: decode_image(data, max_pixels=header.pixels),
        limits=ImageLimits(MAX_PIXELS, MAX_PIXELS, max_frames=1),
        decoded=Budget(1, MAX_PIXELS),
    )
    yield {
        BEFORE: partial(_local_before, cache),
        **{profile: partial(_local, service, profile) for profile in profiles},
    }
    workers.close()


def _served(client: cutstream.Client, profile: str, data: bytes) -> Result:
    began = time.perf_counter()
    try:
        cutout = client.remove(data, profile=profile, timeout_seconds=IMAGE_SECONDS)  # type: ignore[arg-type]
    except cutstream.CutoutError as error:
        if error.reason != "NO_OBJECT":
            raise
        return _nothing_found_in(data)
    seconds = time.perf_counter() - began
    assert cutout.crop is not None
    crop = CropBox(cutout.crop.left_px, cutout.crop.top_px, cutout.crop.width_px, cutout.crop.height_px)
    return Result(cutout.array, crop, seconds, cutout.metrics.confidence)


def _served_before(client: cutstream.Client, data: bytes) -> Result:
    """The service's network alone: a square of the network's own size comes back as the network saw it."""
    began = time.perf_counter()
    rgb = decode_image(data, max_pixels=MAX_PIXELS).rgb
    square = before.squash(rgb)
    png = cv2.imencode(".png", cv2.cvtColor(square, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    try:
        mask = client.remove(
            png,
            profile="fast",
            framing="full",
            channels="alpha",
            output_format="raw",
            sample_type="uint16",
            alpha_floor=0.0,
            timeout_seconds=IMAGE_SECONDS,
        )
    except cutstream.CutoutError as error:
        if error.reason != "NO_OBJECT":
            raise
        return _nothing_found_in(data)
    alpha = mask.array.reshape(before.SQUARE_PX, before.SQUARE_PX).astype(np.float32) / SIXTEEN_BITS
    result = before.cut_out(square, alpha, Size(rgb.shape[1], rgb.shape[0]))
    return Result(result.rgba, result.crop, time.perf_counter() - began)


def _local_before(cache: MaskCache, data: bytes) -> Result:
    rgb = decode_image(data, max_pixels=MAX_PIXELS).rgb
    square = before.squash(rgb)
    return before.cut_out(square, cache.alpha(square), Size(rgb.shape[1], rgb.shape[0]))


def _local(service: ServicePipeline, profile: str, data: bytes) -> Result:
    options = OptionResolver(PRESETS_BY_NAME, {}, IMAGE_SECONDS).resolve({"profile": profile, "output_format": "raw"})
    report = ImageReport(options)
    try:
        cutout = asyncio.run(service.remove(data, report, time_left=IMAGE_SECONDS))
    except CutstreamError as error:
        if error.reason != "NO_OBJECT":
            raise
        return _nothing_found_in(data)
    rgba = np.frombuffer(cutout.image, np.uint8).reshape(cutout.height_px, cutout.width_px, 4)
    return Result(rgba, cutout.crop, confidence=report.confidence)


def _nothing_found_in(data: bytes) -> Result:
    source = decode_image(data, max_pixels=MAX_PIXELS)
    return nothing_found(source.width, source.height)


class _CachedTriton:
    """Answers as `TritonClient` does, from disk where it can."""

    def __init__(self, cache: MaskCache) -> None:
        self._cache = cache

    async def infer(self, _model: str, image: np.ndarray, **_ignored: object) -> Prediction:
        alpha = self._cache.alpha_of_input(image)
        return Prediction(alpha[np.newaxis, np.newaxis], "1")
