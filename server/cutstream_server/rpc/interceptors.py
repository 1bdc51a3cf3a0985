"""Measures and traces every call of the service.

Not the OpenTelemetry project's interceptor: that one takes aborted and failed calls for good ones, breaks handlers that
read through the context, and has no metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.telemetry.attributes import MAX_TEXT
from cutstream_server.telemetry.images import Telemetry

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"]
METHODS: Final = frozenset(f"{_SERVICE.full_name}/{method.name}" for method in _SERVICE.methods)
OTHER_METHOD: Final = "_OTHER"
"""All methods that this server does not have; the name is the conventions' own."""

# Probes come every few seconds and their watches last for days: both would drown the calls that matter.
UNOBSERVED: Final = (f"{health.SERVICE_NAME}/", f"{reflection.SERVICE_NAME}/")

_propagator = TraceContextTextMapPropagator()


class TelemetryInterceptor(grpc.aio.ServerInterceptor):
    """Puts a span around each call, below the one that the caller's metadata names, and records its true end.

    It must come first, so that calls that another interceptor refuses are seen too. All handlers are those of streams,
    as in `rpc/handlers.py`.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Gives the method's handler with the span around it."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method.removeprefix("/")
        if name.startswith(UNOBSERVED):
            return handler
        method = name if name in METHODS else OTHER_METHOD
        if handler is None:
            self._record(method, grpc.StatusCode.UNIMPLEMENTED, 0.0)
            return None
        metadata = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}
        function: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            partial(self._run, function, method, _propagator.extract(metadata, Context())),
            handler.request_deserializer,
            handler.response_serializer,
        )

    async def _run(
        self,
        function: Callable[[Any, ServicerContext], Awaitable[None]],
        method: str,
        parent: Context,
        requests: Any,
        context: ServicerContext,
    ) -> None:
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        span = self._telemetry.tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        started, code = time.perf_counter(), grpc.StatusCode.UNKNOWN
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                await function(requests, context)
            code = context.code() or grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = context.code()
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED if context.time_remaining() == 0 else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            if context.cancelled():
                code = grpc.StatusCode.CANCELLED
            else:
                span.record_exception(error)
            raise
        finally:
            self._record(method, code, time.perf_counter() - started, trace.set_span_in_context(span))
            _end(span, code, context.details())

    def _record(self, method: str, code: grpc.StatusCode, seconds: float, context: Context | None = None) -> None:
        labels = {"rpc.method": method, "rpc.response.status_code": code.name}
        self._telemetry.metrics.call_duration.record(seconds, labels, context)


def _end(span: Span, code: grpc.StatusCode, details: str | bytes | None) -> None:
    span.set_attribute("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        text = details.decode(errors="replace") if isinstance(details, bytes) else details or ""
        span.set_status(StatusCode.ERROR, f"{code.name}: {text}"[:MAX_TEXT])
    span.end()
