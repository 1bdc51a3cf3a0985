"""Spans of the client, and how their contexts reach the server."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON
from opentelemetry.trace import StatusCode

from cutstream import CutoutError, tracing


class Spans:
    """What a program that traces gets to see."""

    def __init__(self, patch: pytest.MonkeyPatch, sampler=DEFAULT_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("program")
        patch.setattr(tracing, "_tracer", provider.get_tracer("cutstream"))

    def __call__(self, name: str | None = None):
        return [span for span in self._exporter.get_finished_spans() if name in {None, span.name}]

    def of_images(self):
        return {span.attributes["cutstream.image.id"]: span for span in self("remove image")}


@pytest.fixture
def spans(monkeypatch):
    return Spans(monkeypatch)


def ids_of(span) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"


def test_a_single_image_takes_its_context_along_as_metadata(client, server, spans):
    client.remove(b"cat", image_id="cat.jpg")
    (span,) = spans()
    assert server.traceparents[0].startswith(ids_of(span))
    assert span.status.status_code is StatusCode.UNSET


def test_each_image_of_a_stream_has_a_span_whose_context_is_in_its_first_chunk(client, server, spans):
    list(client.stream([("a", b"cat"), ("b", bytes(2_000_000))]))
    received = {image.image_id: image.traceparent for image in server.received}
    assert {name: parent.startswith(ids_of(spans.of_images()[name])) for name, parent in received.items()} == {
        "a": True,
        "b": True,
    }


def test_a_stream_has_a_span_of_its_own_whose_context_is_in_its_metadata(client, server, spans):
    list(client.stream([b"cat"]))
    (span,) = spans(tracing.STREAM_METHOD)
    assert server.traceparents[0].startswith(ids_of(span))


def test_the_spans_are_below_the_callers_own(client, spans):
    with spans.tracer.start_as_current_span("job") as job:
        client.remove(b"cat")
        list(client.stream([b"dog", b"cow"]))
    below = [span for span in spans() if span.parent == job.get_span_context()]
    assert sorted(span.name for span in below) == sorted(["remove image"] * 3 + [tracing.STREAM_METHOD])


def test_a_failed_image_is_an_error_with_its_reason(client, server, spans):
    async def script(image):
        return server.failure(image, "NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION)

    server.script = script
    list(client.stream([("a", b"cat")]))
    span = spans.of_images()["a"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "NO_OBJECT: about NO_OBJECT")
    assert span.attributes["cutstream.reason"] == span.attributes["error.type"] == "NO_OBJECT"


def test_a_failed_call_is_an_error_with_its_reason(client, server, spans):
    server.unary = lambda *_: server.status("NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION)
    with pytest.raises(CutoutError):
        client.remove(b"cat")
    assert spans()[0].attributes["cutstream.reason"] == "NO_OBJECT"


def test_an_image_that_is_tried_again_keeps_its_span_and_tells_of_the_attempt(client, server, spans):
    async def script(image):
        if image.attempt == 1:
            return server.failure(image, "MODEL_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
        return server.success(image)

    server.script = script
    list(client.stream([("a", b"cat")]))
    span = spans.of_images()["a"]
    assert [event.name for event in span.events] == ["sending", "attempt failed", "sending"]
    assert span.events[1].attributes["cutstream.reason"] == "MODEL_UNAVAILABLE"
    assert {image.traceparent[:52] for image in server.received} == {ids_of(span)}


def test_images_of_a_stream_that_is_left_end_as_cancelled(client, server, spans):
    results = client.stream([("a", b"cat"), ("b", b"dog"), ("c", b"cow")], window=2)
    next(results)
    results.close()
    reasons = [span.attributes.get("cutstream.reason") for span in spans("remove image")]
    assert set(reasons) <= {None, "CANCELLED"}
    assert len(spans("remove image")) >= 1


def test_what_is_not_sampled_tells_the_server_so(client, server, monkeypatch):
    spans = Spans(monkeypatch, ALWAYS_OFF)
    client.remove(b"cat")
    list(client.stream([b"dog"]))
    flags = {text.rpartition("-")[2] for text in (*server.traceparents, server.received[0].traceparent)}
    assert [int(flag, 16) & 1 for flag in flags] == [0] * len(flags)
    assert spans() == []


def test_a_program_that_traces_nothing_sends_no_context(client, server):
    client.remove(b"cat")
    list(client.stream([b"dog"]))
    assert {*server.traceparents, server.received[0].traceparent} == {""}


def test_without_opentelemetry_everything_else_works(server):
    program = f"""
import sys
sys.modules["opentelemetry"] = None
import cutstream
with cutstream.Client("{server.target}") as client:
    print(client.remove(b"cat").data, [result.data for result in client.stream([b"dog"])])
print(any(name.startswith("opentelemetry.") for name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "b'tac' [b'god']\nFalse\n"
