"""From colours to an alpha map: the network on Triton, at one input size or at several."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from cutstream_server.imaging.mask import AlphaMap
from cutstream_server.imaging.resample import Pixels, to_network_input
from cutstream_server.report import ImageReport
from cutstream_server.segmentation.connection import Prediction
from cutstream_server.segmentation.triton import TritonClient
from cutstream_server.workers import Workers

# The network was trained on images stretched to this square, whatever their aspect.
NETWORK_SIDE_PX: Final = 1024
# It halves its input five times.
SIDE_MULTIPLE_PX: Final = 32


class Segmenter:
    """Finds the alpha of whole images.

    Args:
        triton: runs the networks.
        workers: where inputs are made.
    """

    def __init__(self, triton: TritonClient, workers: Workers) -> None:
        self._triton = triton
        self._workers = workers

    async def segment(self, rgb: Pixels, report: ImageReport, *, time_left: float) -> AlphaMap:
        """Runs the model that the options name, at the sizes that they ask for, and takes the median.

        Args:
            rgb: (H, W, 3) sRGB of the upright image, uint8 or uint16.
            report: gives the options and takes the model's name and version.
            time_left: seconds after which Triton need not begin.

        Returns:
            Alpha of the whole image, float32 (1024, 1024) in 0..1, whatever the image's aspect.
        """
        options = report.options
        factors = options.multi_scale_factors if options.enable_multi_scale else (1.0,)
        sides = [network_side(factor) for factor in factors]
        predictions = await asyncio.gather(*(self._predict(rgb, side, report, time_left) for side in sides))
        report.alpha_source = "model"
        report.model_name = options.model
        report.model_version = predictions[0].version
        alphas = [prediction.alpha[0, 0] for prediction in predictions]
        if len(alphas) == 1:
            only: AlphaMap = alphas[0]
            return only
        return await self._workers.run(report, "segmentation", median_alpha, alphas)

    async def _predict(self, rgb: Pixels, side: int, report: ImageReport, time_left: float) -> Prediction:
        image = await self._workers.run(report, "segmentation", to_network_input, rgb, side, side)
        with report.stage("segmentation"):
            return await self._triton.infer(report.options.model, image, timeout=time_left)


def network_side(factor: float) -> int:
    """The input side for a factor of the network's own, rounded to what its five halvings divide, in pixels."""
    return round(NETWORK_SIDE_PX * factor / SIDE_MULTIPLE_PX) * SIDE_MULTIPLE_PX


def median_alpha(alphas: Sequence[AlphaMap]) -> AlphaMap:
    """The pixelwise median of alpha maps, each (side, side) in 0..1, on the (1024, 1024) grid."""
    size = (NETWORK_SIDE_PX, NETWORK_SIDE_PX)
    grid = [cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR) for alpha in alphas]
    median: AlphaMap = np.median(grid, axis=0).astype(np.float32)
    return median
