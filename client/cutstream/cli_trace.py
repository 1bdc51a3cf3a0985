"""Traces of the command line: sent by OTLP where `OTEL_*` says so, and shown by `cutstream remove --trace`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from cutstream.tracing import IMAGE_ID, IMAGE_SPAN

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from cutstream.results import StageDurations

_STAGES = ("queue", "decode", "segmentation", "refinement", "framing", "encoding")
_NANOSECONDS = 1e9
_MAX_BAR = 60
_LABEL_WIDTH, _SECONDS_WIDTH, _MARGIN = 12, 9, 6
# The end of a command must not wait for a collector that is not there for as long as a service may.
_EXPORT_SECONDS = 3.0
_SERVICE_NAME = "cutstream"
# The extra "tracing".
_PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"


@dataclass(frozen=True)
class ImageTrace:
    """What this side knows about the trace of one image: its id, and the seconds from the sending to the answer."""

    trace_id: str
    seconds: float


class Recording:
    """The traces of the images of this process. Made by `record`."""

    def __init__(self, spans: InMemorySpanExporter) -> None:
        self._spans = spans

    def take(self, image_id: str) -> ImageTrace | None:
        """The trace of an image that has its result; None when it was not sent, or is not sampled."""
        for span in self._spans.get_finished_spans():
            if span.name == IMAGE_SPAN and (span.attributes or {}).get(IMAGE_ID) == image_id:
                assert span.start_time is not None
                assert span.end_time is not None
                seconds = (span.end_time - span.start_time) / _NANOSECONDS
                return ImageTrace(f"{span.context.trace_id:032x}", seconds)
        return None


def send_if_configured() -> None:
    """Sends spans by OTLP over HTTP where the standard variables ask for it and OpenTelemetry is installed."""
    if _is_configured():
        with contextlib.suppress(ImportError):
            _start()


def record() -> Recording:
    """Keeps the spans of this process from here on; BadParameter without OpenTelemetry."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError as error:
        raise typer.BadParameter(f"--trace needs OpenTelemetry: pip install {_PACKAGES}") from error
    running = trace.get_tracer_provider()
    provider = running if isinstance(running, TracerProvider) else _start()
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Recording(spans)


def show(console: Console, trace: ImageTrace | None, durations: StageDurations | None) -> None:
    """Prints an image's trace id and, as bars over the time that this side waited, where its time went.

    The server tells the sums of its stages, not when each began: they are drawn in their order, the waits first, and
    whatever is not the server's work before them.
    """
    if trace is None:
        console.print(Text("  no trace: it was not sent, or OTEL_TRACES_SAMPLER leaves it out", style="dim"))
        return
    console.print(Text(f"  trace {trace.trace_id}", style="bold"))
    rows = [("client", 0.0, trace.seconds)]
    if durations is not None and durations.total_seconds is not None:
        at = max(0.0, trace.seconds - durations.total_seconds)
        rows.append(("server", at, durations.total_seconds))
        for stage in _STAGES:
            seconds = getattr(durations, f"{stage}_seconds")
            if seconds is not None:
                rows.append((stage, at, seconds))
                at += seconds
    width = min(_MAX_BAR, console.width - _LABEL_WIDTH - _SECONDS_WIDTH - _MARGIN)
    for label, start, seconds in rows:
        console.print(_bar(label, start / trace.seconds, seconds / trace.seconds, width, seconds))


def _bar(label: str, start: float, share: float, width: int, seconds: float) -> Text:
    """One row: `start` and `share` in 0..1 of the width; the shortest time has a bar too."""
    first = min(width - 1, round(start * width))
    length = min(width - first, max(1, round(share * width)))
    line = Text(f"  {label:<{_LABEL_WIDTH}}")
    line.append(" " * first + "█" * length + " " * (width - first - length), style="cyan")
    return line.append(f"  {seconds:>{_SECONDS_WIDTH - 2}.3f} s")


def _is_configured() -> bool:
    variables = {name.removeprefix("OTEL_"): value for name, value in os.environ.items() if name.startswith("OTEL_")}
    endpoint = variables.get("EXPORTER_OTLP_TRACES_ENDPOINT") or variables.get("EXPORTER_OTLP_ENDPOINT")
    protocol = variables.get("EXPORTER_OTLP_TRACES_PROTOCOL") or variables.get("EXPORTER_OTLP_PROTOCOL")
    exporter = variables.get("TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    return exporter == "otlp" and protocol in {None, "http/protobuf"}


def _start() -> TracerProvider:
    """Makes the spans of this process real ones; ImportError without OpenTelemetry's SDK."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": _SERVICE_NAME}))
    provider = TracerProvider(resource=resource)
    if _is_configured():
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_SECONDS)))
    trace.set_tracer_provider(provider)
    return provider
