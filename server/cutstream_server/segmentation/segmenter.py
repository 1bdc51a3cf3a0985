"""From colours to an alpha map: the network on Triton, on the whole image and then, closer, on the object's window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from cutstream_server.imaging.certainty import decisiveness
from cutstream_server.imaging.geometry import Size
from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import Pixels, to_network_input
from cutstream_server.report import ImageReport
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.closer_look import put_back
from cutstream_server.segmentation.connection import Prediction
from cutstream_server.segmentation.locate import locate_object
from cutstream_server.segmentation.triton import TritonClient
from cutstream_server.telemetry.images import stage_span
from cutstream_server.workers import Workers

# Masks of several scales are brought to this side before their median is taken: the one that most networks have.
NETWORK_SIDE_PX: Final = 1024


@dataclass(frozen=True)
class Looks:
    """Which passes of the network a profile makes.

    Attributes:
        first: side of the pass over the whole image, as a factor of the network's own.
        closer: side of the pass over the object's window, likewise; None makes none.
    """

    first: float
    closer: float | None


# A pass costs in proportion to its pixels: these are 1, 1.56 and 2 passes at the network's own side. A smaller first
# look would be cheaper and loses more objects than a larger closer one makes up for (docs/quality.md).
LOOKS: Final[Mapping[str, Looks]] = {
    "fast": Looks(1.0, None),
    "balanced": Looks(1.0, 0.75),
    "quality": Looks(1.0, 1.0),
}


class Segmenter:
    """Finds the alpha of whole images.

    Args:
        triton: runs the networks.
        workers: where inputs are made.
        catalog: which sides each model takes.
    """

    def __init__(self, triton: TritonClient, workers: Workers, catalog: ModelCatalog) -> None:
        self._triton = triton
        self._workers = workers
        self._catalog = catalog

    async def segment(self, rgb: Pixels, report: ImageReport, *, time_left: float) -> AlphaMap:
        """Runs the model that the options name, on the whole image and then on its object, unless in a hurry.

        The first look is the median of several where the options ask for more than one scale.

        Args:
            rgb: (H, W, 3) sRGB of the upright image, uint8 or uint16.
            report: gives the options and takes the model's name and version, and how decisive each look was.
            time_left: seconds after which Triton need not begin.

        Returns:
            Alpha of the whole image, float32 in 0..1: as large as the network's answer after one look, as fine as the
            source (up to a limit) after a closer one.
        """
        options, looks = report.options, LOOKS[report.options.profile]
        factors = options.multi_scale_factors if options.enable_multi_scale else (looks.first,)
        deadline = time.monotonic() + time_left
        with stage_span("segmentation"):
            first = await self._look(rgb, factors, report, deadline)
            if looks.closer is None:
                return first
            return await self._look_closer(rgb, first, looks.closer, report, deadline)

    async def _look(self, rgb: Pixels, factors: Sequence[float], report: ImageReport, deadline: float) -> AlphaMap:
        sides = [self._catalog.rules(report.options.model).side_for(factor) for factor in factors]
        predictions = await asyncio.gather(*(self._predict(rgb, side, report, deadline) for side in sides))
        report.alpha_source = "model"
        report.model_name = report.options.model
        report.model_version = predictions[0].version
        alphas = [prediction.alpha[0, 0] for prediction in predictions]
        alpha: AlphaMap = alphas[0]
        if len(alphas) > 1:
            alpha = await self._workers.run(report, "segmentation", median_alpha, alphas)
        report.looks = [await self._workers.run(report, "segmentation", decisiveness, alpha)]
        return alpha

    async def _look_closer(
        self, rgb: Pixels, first: AlphaMap, factor: float, report: ImageReport, deadline: float
    ) -> AlphaMap:
        source = Size(rgb.shape[1], rgb.shape[0])
        window = await self._workers.run(report, "segmentation", locate_object, first, source)
        if window is None:
            return first
        side = self._catalog.rules(report.options.model).side_for(factor)
        closer = await self._predict(window.of(rgb), side, report, deadline)
        second: AlphaMap = closer.alpha[0, 0]
        report.looks.append(await self._workers.run(report, "segmentation", decisiveness, second))
        alpha, report.agreement = await self._workers.run(
            report, "segmentation", put_back, first, second, window, source
        )
        return alpha

    async def _predict(self, rgb: Pixels, side: int, report: ImageReport, deadline: float) -> Prediction:
        image = await self._workers.run(report, "segmentation", to_network_input, rgb, side, side)
        with report.stage("segmentation"):
            return await self._triton.infer(report.options.model, image, timeout=deadline - time.monotonic())


def median_alpha(alphas: Sequence[AlphaMap]) -> AlphaMap:
    """The pixelwise median of alpha maps, each (side, side) in 0..1, on the (1024, 1024) grid."""
    size = (NETWORK_SIDE_PX, NETWORK_SIDE_PX)
    grid = [cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR) for alpha in alphas]
    median: AlphaMap = np.median(grid, axis=0).astype(np.float32)
    return median
