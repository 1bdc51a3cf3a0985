"""A collector of spans: OTLP over HTTP, in protobuf from the SDKs of Python and in JSON from Triton."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# The SDK sends within seconds; two busy cores take longer.
ARRIVAL_SECONDS = 60


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was received; ids are in hexadecimal, no parent is empty."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    failed: bool = False
    status_message: str = ""
    attributes: dict = field(default_factory=dict)
    events: tuple = ()
    links: tuple = ()


class Collector:
    """Keeps all spans that are sent to it, whoever they are from."""

    def __init__(self):
        self._spans = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def spans(self):
        with self._lock:
            return list(self._spans)

    def has(self, condition, seconds):
        """Waits until a condition on the spans is true; tells whether it is before the time is over."""
        deadline = time.monotonic() + seconds
        while not condition(self.spans):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_for(self, condition):
        """Waits until a condition on the spans is true and gives them."""
        names = sorted((span.service, span.name) for span in self.spans)
        assert self.has(condition, ARRIVAL_SECONDS), f"the spans did not come; there were {names}"
        return self.spans

    def take(self, content_type, body):
        received = _from_json(json.loads(body)) if "json" in content_type else _from_protobuf(body)
        with self._lock:
            self._spans += received

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def running_collector():
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


def _handler_of(collector):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.take(self.headers["content-type"], body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            del arguments

    return Handler


def _from_protobuf(body):
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _plain(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    span.status.message,
                    _plain(span.attributes),
                    tuple(event.name for event in span.events),
                    tuple(link.span_id.hex() for link in span.links),
                )


def _plain(attributes):
    values = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        if kind == "array_value":
            value = [getattr(item, item.WhichOneof("value")) for item in value.values]
        values[attribute.key] = value
    return values


def _from_json(message):
    for resource in message["resourceSpans"]:
        about = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield ReceivedSpan(
                    about["service.name"]["stringValue"],
                    span["name"],
                    span["traceId"],
                    span["spanId"],
                    span.get("parentSpanId", ""),
                    span["kind"],
                    events=tuple(event["name"] for event in span.get("events", ())),
                    attributes={item["key"]: next(iter(item["value"].values())) for item in span.get("attributes", ())},
                )
