"""What is told about one image: its span with the stages below it, its lines in the log, its share in the metrics.

The image that a task or a worker thread is busy with is in a context variable, so that stages and log lines find it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import Link, NoOpTracer, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cutstream_server.errors import CutstreamError
from cutstream_server.options import Options
from cutstream_server.telemetry.attributes import MAX_TEXT, image_attributes
from cutstream_server.telemetry.metrics import CANCELLED, Metrics

if TYPE_CHECKING:
    from cutstream_server.report import ImageReport
    from cutstream_server.service import Outcome

logger = logging.getLogger(__name__)

# A wait in a queue is a span of its own from here on. On a busy server each image has nine shorter ones, more than it
# has other spans, and they would be half of what tracing costs; the metrics have them all.
LEAST_WAIT_SHOWN_SECONDS: Final = 0.1

_propagator = TraceContextTextMapPropagator()
_current: ContextVar[ObservedImage | None] = ContextVar("cutstream_image", default=None)
_in_stage: ContextVar[bool] = ContextVar("cutstream_in_stage", default=False)


@dataclass(frozen=True)
class Telemetry:
    """Where the service tells what it does.

    Attributes:
        tracer: makes the spans; the API's own, which does nothing, when tracing is off.
        metrics: the instruments.
        log_images: whether each image is a line at level info instead of debug.
        defaults: the options of an image that sets none; a span shows those that differ.
    """

    tracer: Tracer
    metrics: Metrics
    log_images: bool = False
    defaults: Options = field(default_factory=partial(Options.model_validate, {}))


OFF: Final = Telemetry(NoOpTracer(), Metrics(NoOpMeter("off")))


class ObservedImage:
    """One image from its first byte to its answer. Made by `in_call` or `in_stream`.

    Attributes:
        telemetry: what it is told to.
        image_id: the caller's id; empty while that is not known.
        span: its span.
        ended: whether `end` was called.
    """

    def __init__(self, telemetry: Telemetry, parent: Context | None, links: list[Link]) -> None:
        self.telemetry = telemetry
        self.image_id = ""
        self.span = telemetry.tracer.start_span("image", parent, links=links)
        self.ended = False

    @classmethod
    def in_call(cls, telemetry: Telemetry) -> ObservedImage:
        """Begins the image of a unary call, below the call's span, before its request is read."""
        return cls(telemetry, None, [])

    @classmethod
    def in_stream(cls, telemetry: Telemetry, image_id: str, traceparent: str) -> ObservedImage:
        """Begins an image of a stream, linked to the stream's span.

        Args:
            telemetry: takes it.
            image_id: the caller's id.
            traceparent: the W3C context of the image's first chunk. Empty or invalid: the image gets a trace of its
                own, since one for all the images of a stream would be too long to look at.
        """
        # An empty context, so that an invalid parent does not leave the stream's span as the parent.
        parent = _propagator.extract({"traceparent": traceparent}, Context())
        stream = trace.get_current_span().get_span_context()
        image = cls(telemetry, parent, [Link(stream)] if stream.is_valid else [])
        image._set_id(image_id)
        return image

    def admitted(self) -> None:
        """Notes that it has its place in the budget."""
        self.span.add_event("admitted")

    def received(self, size_bytes: int, image_id: str | None = None) -> None:
        """Notes that all its bytes are here, and its id if that came with them."""
        if image_id is not None:
            self._set_id(image_id)
        self.span.set_attribute("cutstream.image.size_bytes", size_bytes)
        self.span.add_event("received")

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes it the current image of this task, and of the threads that work for it."""
        token = _current.set(self)
        try:
            with trace.use_span(self.span, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            _current.reset(token)

    def end(self, outcome: Outcome | None) -> None:
        """Ends the span, counts the image and logs it; only the first call counts.

        Args:
            outcome: None when its caller went away before there was one.
        """
        if self.ended:
            return
        self.ended = True
        report = outcome.report if outcome else None
        error = outcome.error if outcome else None
        reason = error.reason if error else "" if outcome else CANCELLED
        with self.active():
            self._log(reason, error, report)
            self.telemetry.metrics.count_image(reason, report, trace.set_span_in_context(self.span))
        if self.span.is_recording():
            if report is not None:
                self.span.set_attributes(image_attributes(report, self.telemetry.defaults))
            self._note_failure(reason, error)
        self.span.end()

    def _set_id(self, image_id: str) -> None:
        self.image_id = image_id[:MAX_TEXT]
        self.span.set_attribute("cutstream.image.id", self.image_id)

    def _note_failure(self, reason: str, error: CutstreamError | None) -> None:
        self.span.set_attribute("cutstream.outcome", "error" if reason else "ok")
        if reason:
            self.span.set_attributes({"cutstream.reason": reason, "error.type": reason})
            self.span.set_status(StatusCode.ERROR, f"{reason}: {error.message}"[:MAX_TEXT] if error else reason)
        if error is not None and "fault_id" in error.metadata:
            self.span.set_attribute("cutstream.fault_id", error.metadata["fault_id"])

    def _log(self, reason: str, error: CutstreamError | None, report: ImageReport | None) -> None:
        level = logging.INFO if self.telemetry.log_images else logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        fields: dict[str, object] = {"outcome": "error" if reason else "ok"}
        if reason:
            fields["reason"] = reason
        if report is not None:
            fields["seconds"] = {stage: round(seconds, 6) for stage, seconds in report.seconds.items()}
        shown = f"failed: {reason}" if reason else "done"
        message = f": {error.message[:MAX_TEXT]}" if error else ""
        total = f" in {report.seconds['total']:.3f} s" if report and "total" in report.seconds else ""
        logger.log(level, "image %s%s%s", shown, total, message, extra={"fields": fields})


def current_image() -> ObservedImage | None:
    """The image that this task or thread works for; None when it works for none."""
    return _current.get()


@contextmanager
def stage_span(name: str) -> Iterator[None]:
    """Puts the span of a stage around a block that works for the current image.

    Does nothing when the image has no span that is recorded, and for a part of a stage that has its span already.
    """
    image = _current.get()
    if image is None or not image.span.is_recording() or _in_stage.get():
        yield
        return
    token = _in_stage.set(True)
    try:
        with image.telemetry.tracer.start_as_current_span(name):
            yield
    finally:
        _in_stage.reset(token)


def wait_span(seconds: float) -> None:
    """Makes a span "queue" below the current one, of a wait that ends now."""
    image = _current.get()
    if image is None or seconds < LEAST_WAIT_SHOWN_SECONDS or not image.span.is_recording():
        return
    now = time.time_ns()
    image.telemetry.tracer.start_span("queue", start_time=now - round(seconds * 1e9)).end(now)


@contextmanager
def triton_request(model: str) -> Iterator[Mapping[str, str]]:
    """Measures a call to Triton for the current image. Gives the headers that make Triton's spans part of its trace.

    There are none when the trace is not sampled: Triton takes no notice of the flag that would say so.
    """
    image = _current.get()
    if image is None:
        yield {}
        return
    headers: dict[str, str] = {}
    if trace.get_current_span().get_span_context().trace_flags.sampled:
        _propagator.inject(headers)
    started, status = time.perf_counter(), CANCELLED
    try:
        yield headers
        status = "OK"
    except CutstreamError as error:
        status = error.reason
        # It may be tried again within the same stage.
        trace.get_current_span().add_event("attempt failed", {"cutstream.reason": status})
        raise
    finally:
        seconds = time.perf_counter() - started
        image.telemetry.metrics.triton_duration.record(seconds, {"model": model, "status": status})
