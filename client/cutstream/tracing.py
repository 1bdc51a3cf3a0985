"""Spans of this library: made in a program that uses OpenTelemetry, and nothing at all in one that does not have it.

Only OpenTelemetry's API is used; whether and where to spans are sent is the program's decision.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from cutstream.errors import CutoutError
from cutstream.v1 import cutstream_pb2 as pb

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    HAS_OPENTELEMETRY = False
else:
    HAS_OPENTELEMETRY = True
    _tracer = trace.get_tracer("cutstream")
    _propagator = TraceContextTextMapPropagator()

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_SPAN = "remove image"
IMAGE_ID = "cutstream.image.id"
STREAM_METHOD = f"{pb.DESCRIPTOR.services_by_name['BackgroundRemovalService'].full_name}/StreamRemoveBackground"


class ClientSpan:
    """A span below the caller's current one. Ended once, by `end` or by leaving it as a context manager.

    Attributes:
        headers: what takes its context to the server, as a call's metadata; empty where nothing is traced. It is also
            there for a trace that is not sampled: it tells the server to leave it out too.
    """

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        self.headers: tuple[tuple[str, str], ...] = ()
        if HAS_OPENTELEMETRY:
            self._span = _tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
            carrier: dict[str, str] = {}
            _propagator.inject(carrier, trace.set_span_in_context(self._span))
            self.headers = tuple(carrier.items())

    @property
    def traceparent(self) -> str:
        """Its context in the W3C's form; empty where nothing is traced."""
        return dict(self.headers).get("traceparent", "")

    def note(self, event: str, **attributes: str | int) -> None:
        """Adds an event."""
        if HAS_OPENTELEMETRY:
            named = {f"cutstream.{name}": value for name, value in attributes.items()}
            self._span.add_event(event, named)

    def end(self, error: BaseException | None = None) -> None:
        """Ends it, as an error with its reason if there is one."""
        if not HAS_OPENTELEMETRY:
            return
        if error is not None:
            reason = error.reason if isinstance(error, CutoutError) else type(error).__name__
            self._span.set_attributes({"cutstream.reason": reason, "error.type": reason})
            self._span.set_status(trace.StatusCode.ERROR, str(error) or reason)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error)


def image_span(image_id: str) -> ClientSpan:
    """The span of one image, from its sending, or its reading, to its answer, all attempts together."""
    return ClientSpan(IMAGE_SPAN, {IMAGE_ID: image_id})


def stream_span() -> ClientSpan:
    """The span of one stream to one server."""
    return ClientSpan(STREAM_METHOD, {"rpc.system.name": "grpc", "rpc.method": STREAM_METHOD})
