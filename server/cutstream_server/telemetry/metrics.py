"""The instruments of the service. Their attributes take few values, none of which a caller makes up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Histogram, Meter, Observation

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from cutstream_server.report import ImageReport
    from cutstream_server.rpc.admission import Admission
    from cutstream_server.segmentation.model_server import ModelServer

# Bounds in seconds. A GPU cuts in 0.05 to 0.3 s, two cores in 0.5 to 6 s, and 60 s is an image's limit.
IMAGE_BOUNDS: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0)
# Stages begin at about a millisecond.
STAGE_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The conventions' own and, as a stream lives for as long as its client has images, longer ones.
CALL_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0)
# Finest at both ends, where an object's coverage has its limits.
RATIO_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)

CANCELLED: Final = "CANCELLED"
"""The reason of an image whose caller went away; all others are those of `errors.py`."""


class Metrics:
    """What is counted and measured.

    Args:
        meter: makes the instruments; the API's own, which does nothing, when metrics are off.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.call_duration = self._histogram(
            "rpc.server.call.duration", "s", "Duration of a call; of a stream from its begin to its end.", CALL_BOUNDS
        )
        self.streams_open = meter.create_up_down_counter("cutstream.streams.open", "{stream}", "Streams open now.")
        self._images = meter.create_counter(
            "cutstream.images", "{image}", "Images that were answered or given up, by outcome and reason."
        )
        self._image_duration = self._histogram(
            "cutstream.image.duration", "s", "Time from an image's last byte to its outcome.", IMAGE_BOUNDS
        )
        self._stage_duration = self._histogram(
            "cutstream.stage.duration", "s", "Time that an image spent in a stage.", STAGE_BOUNDS
        )
        self.triton_duration = self._histogram(
            "cutstream.triton.request.duration", "s", "Time until Triton answered for an image.", STAGE_BOUNDS
        )
        self._mask_confidence = self._histogram(
            "cutstream.mask.confidence", "1", "How likely a predicted mask is right.", RATIO_BOUNDS
        )
        self._object_coverage = self._histogram(
            "cutstream.object.coverage", "1", "Share of the image that its predicted object covers.", RATIO_BOUNDS
        )
        self._centering_score = self._histogram(
            "cutstream.centering.score", "1", "1 for a predicted object in the middle of its cutout.", RATIO_BOUNDS
        )

    def count_image(self, reason: str, report: ImageReport | None, context: Context) -> None:
        """Counts an image, and its times and measurements as far as it got.

        Args:
            reason: empty for a cutout.
            report: None for an image that failed before any work.
            context: of the image's span, which the exemplars name.
        """
        outcome = "error" if reason else "ok"
        labels = {"outcome": outcome, "reason": reason} if reason else {"outcome": outcome}
        self._images.add(1, labels, context)
        if report is None or "total" not in report.seconds:
            return
        labels = {"outcome": outcome, "profile": report.options.profile}
        self._image_duration.record(report.seconds["total"], labels, context)
        for stage, seconds in report.seconds.items():
            if stage != "total":
                self._stage_duration.record(seconds, {"stage": stage}, context)
        # The drift of a model shows in what it predicts, not in the masks that images bring.
        if report.mask is not None and report.model_name:
            model = {"model": report.model_name}
            if report.confidence is not None:
                self._mask_confidence.record(report.confidence, model, context)
            self._object_coverage.record(report.mask.object_coverage_ratio, model, context)
            if report.mask.centering is not None:
                self._centering_score.record(report.mask.centering.score, model, context)

    def watch_admission(self, admission: Admission) -> None:
        """Observes the budget of images and bytes and how much of it is spent."""
        self._gauge("cutstream.images.in_flight", "{image}", "Images admitted now.", lambda: admission.images)
        self._gauge(
            "cutstream.images.waiting", "{image}", "Images that wait to be admitted.", lambda: admission.waiting
        )
        self._gauge(
            "cutstream.bytes.in_flight", "By", "Encoded bytes of the images admitted now.", lambda: admission.bytes
        )
        self._gauge("cutstream.admission.images.limit", "{image}", "Most images at once.", lambda: admission.max_images)
        self._gauge("cutstream.admission.bytes.limit", "By", "Most encoded bytes at once.", lambda: admission.max_bytes)
        self._total(
            "cutstream.admission.rejected", "{image}", "Images refused as OVERLOADED.", lambda: admission.rejected
        )

    def watch_triton(self, models: ModelServer) -> None:
        """Observes whether Triton answers, and how often the embedded one was started again."""
        self._gauge("cutstream.triton.available", "", "1 while Triton answers, else 0.", lambda: int(models.ready))
        self._total("cutstream.triton.restarts", "{restart}", "Failures that began a restart.", lambda: models.restarts)

    def _histogram(self, name: str, unit: str, description: str, bounds: tuple[float, ...]) -> Histogram:
        return self._meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

    def _gauge(self, name: str, unit: str, description: str, read: Callable[[], int]) -> None:
        self._meter.create_observable_gauge(name, [lambda _: [Observation(read())]], unit, description)

    def _total(self, name: str, unit: str, description: str, read: Callable[[], int]) -> None:
        self._meter.create_observable_counter(name, [lambda _: [Observation(read())]], unit, description)
