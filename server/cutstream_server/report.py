"""What the pipeline finds out about one image, filled in as it goes: also a failed image tells how far it came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from cutstream_server.imaging.geometry import Box, CropBox
from cutstream_server.imaging.quality import MaskMetrics, ObjectValidation
from cutstream_server.options import Options
from cutstream_server.telemetry.images import stage_span, wait_span

Stage = Literal["decode", "queue", "segmentation", "refinement", "framing", "encoding", "total"]


@dataclass(frozen=True)
class SourceInfo:
    """The input as it was read: size of the upright image in pixels, format name, EXIF orientation 1..8."""

    width_px: int
    height_px: int
    format: str
    exif_orientation: int


@dataclass(frozen=True)
class ThresholdInfo:
    """The threshold used for the box, and Otsu's, both in 0..1; `otsu` is None when metrics are off."""

    used: float
    otsu: float | None


@dataclass
class ImageReport:
    """The measurements of one image; what was not reached stays None.

    Attributes:
        options: the options used, after precedence and defaults.
        source: the input as it was read.
        alpha_source: where the alpha comes from.
        model_name: the network that made the alpha; empty when none ran.
        model_version: its version on Triton.
        agreement: how far a closer look at the object agreed with the first one, 0..1; None without one.
        looks: how decisive the network was in each look at the image, 0..1; empty when none was made.
        threshold: the threshold used.
        foreground_box: the box around the object, in source pixels.
        mask: the quality metrics; None too when the options switch them off.
        confidence: how likely the cutout is right, 0..1; None when the alpha is the input's, or metrics are off.
        validation: outcome of the validation of the object's size.
        seconds: time spent in each stage.
    """

    options: Options
    source: SourceInfo | None = None
    alpha_source: Literal["model", "input"] | None = None
    model_name: str = ""
    model_version: str = ""
    agreement: float | None = None
    looks: list[float] = field(default_factory=list)
    threshold: ThresholdInfo | None = None
    foreground_box: Box | None = None
    mask: MaskMetrics | None = None
    confidence: float | None = None
    validation: ObjectValidation | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: Stage) -> Iterator[None]:
        """Adds the wall time of the block to the stage, also when the block fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add_seconds(name, time.perf_counter() - start)

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Does the same, and puts the stage's span around the block."""
        with self.timed(name), stage_span(name):
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Adds the wall time of the block to the stage "queue"."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add_wait(time.perf_counter() - start)

    def add_wait(self, seconds: float) -> None:
        """Adds a wait that ends now to the stage "queue"."""
        self._add_seconds("queue", seconds)
        wait_span(seconds)

    def _add_seconds(self, name: Stage, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass(frozen=True)
class Cutout:
    """An encoded cutout.

    Attributes:
        image: the file's bytes; empty when only metrics were asked for.
        media_type: MIME type of `image`.
        width_px: width of the cutout.
        height_px: height of the cutout.
        crop: the part of the source that it shows.
    """

    image: bytes
    media_type: str
    width_px: int
    height_px: int
    crop: CropBox
