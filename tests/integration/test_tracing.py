"""One trace from the client to the model: real client, server and Triton, and a collector that all three send to."""

import contextlib
import json
import re
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from otlp import running_collector
from running import BIN, running_server

from cutstream import tracing
from cutstream.v1 import cutstream_pb2 as pb

UNARY = "cutstream.v1.BackgroundRemovalService/RemoveBackground"
STREAM = "cutstream.v1.BackgroundRemovalService/StreamRemoveBackground"
STAGES = {"header", "decode", "segmentation", "refinement", "framing", "encoding"}
TRITON_SPANS = {"InferRequest", "tiny", "compute"}
KIND_SERVER, KIND_CLIENT = 2, 3
# Triton 2.51 loses the spans of 2 to 17 of 100 requests that are answered within milliseconds: all three of a request,
# also one request at a time and at every rate. So what is looked at is sent again until its spans are there.
ATTEMPTS = 10
TRITON_SECONDS = 8  # it sends every 5 s


@pytest.fixture(scope="module")
def collector():
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced_server(collector, tmp_path_factory):
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "CUTSTREAM_PROFILE": "fast",  # runs the network once
        "CUTSTREAM_LOG_FORMAT": "json",
        "CUTSTREAM_LOG_IMAGES": "true",
    }
    with running_server(tmp_path_factory.mktemp("traced"), **settings) as running:
        yield running


@contextlib.contextmanager
def traced_client(server, collector, sampler=ALWAYS_ON):
    """A client in a program that traces as `sampler` says."""
    provider = TracerProvider(sampler, Resource.create({"service.name": "test-client"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.endpoint}/v1/traces")))
    with pytest.MonkeyPatch.context() as patch, server.client() as client:
        patch.setattr(tracing, "_tracer", provider.get_tracer("cutstream"))
        yield client
    provider.shutdown()


def disc(side=200):
    y, x = np.mgrid[:side, :side] + 0.5
    return (np.hypot(x - side / 2, y - side / 2) < side / 4).astype(float)


def is_there(*image_ids):
    """Whether the server's spans of these images are there."""

    def check(spans):
        return set(image_ids) <= {s.attributes["cutstream.image.id"] for s in spans if s.name == "image"}

    return check


def until_triton_tells(collector, send):
    """Has images sent until the spans of all of them came from Triton too, and gives the number of the attempt.

    Args:
        collector: receives the spans.
        send: takes the number of the attempt and gives the ids of the images that it sent.
    """
    for attempt in range(ATTEMPTS):
        ids = send(attempt)
        spans = collector.wait_for(is_there(*ids))
        traces = {s.trace_id for s in spans if s.name == "image" and s.attributes["cutstream.image.id"] in ids}

        def is_whole(spans, traces=traces):
            return all(TRITON_SPANS.issubset(s.name for s in spans if s.trace_id == trace) for trace in traces)

        if collector.has(is_whole, TRITON_SECONDS):
            return attempt
    raise AssertionError(f"Triton sent no spans of {ids}")


@pytest.fixture(scope="module")
def workload(traced_server, collector, draw):
    """One unary call and a stream of three images, of which one is broken: the spans of all of them."""
    good = draw(disc())
    made = SimpleNamespace(size=len(good))

    def send(attempt):
        made.ids = ids = {name: f"{name}.{attempt}" for name in ("alone", "good-1", "broken", "good-2")}
        images = [(ids["good-1"], good), (ids["broken"], good[:100]), (ids["good-2"], good)]
        with traced_client(traced_server, collector) as client:
            made.cutout = client.remove(good, image_id=ids["alone"], padding_percentage=0.5)
            results = {result.image_id: result for result in client.stream(images)}
        assert results[ids["broken"]].reason == "IMAGE_UNDECODABLE"
        return [ids[name] for name in ("alone", "good-1", "good-2")]

    until_triton_tells(collector, send)
    made.spans = collector.spans
    return made


def find(spans, name, **attributes):
    """The one span of a name with these attributes, dots written as underscores."""
    found = [s for s in spans if s.name == name and attributes.items() <= by_python_names(s).items()]
    assert len(found) == 1, found
    return found[0]


def by_python_names(span):
    return {name.replace(".", "_"): value for name, value in span.attributes.items()}


def image(workload, name):
    return find(workload.spans, "image", cutstream_image_id=workload.ids[name])


def sent(workload, name):
    """The client's span of an image."""
    return find(workload.spans, "remove image", cutstream_image_id=workload.ids[name])


def stream(workload):
    """The server's span of the stream."""
    (link,) = image(workload, "good-1").links
    return with_id(workload.spans, link)


def with_id(spans, span_id):
    (found,) = [s for s in spans if s.span_id == span_id]
    return found


def children(workload, parent):
    return [s for s in workload.spans if s.parent_id == parent.span_id]


def test_a_unary_call_is_one_trace_from_the_client_to_the_image(workload):
    root, found = sent(workload, "alone"), image(workload, "alone")
    call = with_id(workload.spans, found.parent_id)
    assert (call.name, call.kind) == (UNARY, KIND_SERVER)
    assert (root.parent_id, root.kind, call.parent_id) == ("", KIND_CLIENT, root.span_id)
    assert {call.trace_id, found.trace_id} == {root.trace_id}
    assert (root.service, call.service) == ("test-client", "cutstream-server")


@pytest.mark.parametrize("name", ["alone", "good-1", "good-2"])
def test_an_image_has_one_span_for_each_stage(workload, name):
    names = [s.name for s in children(workload, image(workload, name)) if s.name != "queue"]
    assert sorted(names) == sorted(STAGES)


@pytest.mark.parametrize("name", ["alone", "good-1", "good-2"])
def test_tritons_spans_hang_below_the_segmentation(workload, name):
    trace = [s for s in workload.spans if s.trace_id == image(workload, name).trace_id]
    segmentation = find(trace, "segmentation")
    request, model, compute = (find(trace, name) for name in ("InferRequest", "tiny", "compute"))
    assert (request.parent_id, model.parent_id, compute.parent_id) == (
        segmentation.span_id,
        request.span_id,
        model.span_id,
    )
    assert {s.service for s in (request, model, compute)} == {"triton"}
    assert "QUEUE_START" in model.events
    assert "COMPUTE_START" in compute.events


@pytest.mark.parametrize("name", ["good-1", "broken", "good-2"])
def test_an_image_of_a_stream_is_below_its_own_client_span_and_linked_to_the_stream(workload, name):
    above, found = sent(workload, name), image(workload, name)
    assert (found.trace_id, found.parent_id, found.links) == (
        above.trace_id,
        above.span_id,
        (stream(workload).span_id,),
    )
    assert found.events == ("admitted", "received")


def test_the_streams_own_span_is_below_the_clients(workload):
    call = stream(workload)
    above = with_id(workload.spans, call.parent_id)
    assert [(s.name, s.kind) for s in (above, call)] == [(STREAM, KIND_CLIENT), (STREAM, KIND_SERVER)]


def test_each_image_of_a_stream_has_a_trace_of_its_own(workload):
    ids = [image(workload, name).trace_id for name in ("good-1", "broken", "good-2")]
    assert len({*ids, stream(workload).trace_id}) == 4


def test_an_images_attributes_say_what_it_was_and_how_it_was_cut(workload):
    attributes = image(workload, "alone").attributes
    area = np.pi / 16  # of a disc with a radius of a quarter of the side
    assert attributes.pop("cutstream.object.coverage") == pytest.approx(area, abs=0.005)
    assert attributes.pop("cutstream.mask.confidence") == workload.cutout.metrics.confidence
    assert attributes.pop("cutstream.centering.score") == pytest.approx(1, abs=0.01)
    assert attributes == {
        "cutstream.image.id": workload.ids["alone"],
        "cutstream.image.size_bytes": workload.size,
        "cutstream.image.format": "PNG",
        "cutstream.image.width_px": 200,
        "cutstream.image.height_px": 200,
        "cutstream.model.name": "tiny",
        "cutstream.model.version": "1",
        "cutstream.alpha_source": "model",
        "cutstream.threshold": 0.8,
        "cutstream.validation": "ok",
        "cutstream.outcome": "ok",
        "cutstream.options.padding_percentage": 0.5,
    }


def test_a_failed_image_is_an_error_with_its_reason_on_both_sides(workload):
    found = image(workload, "broken")
    assert found.failed
    assert found.status_message.startswith("IMAGE_UNDECODABLE: ")
    assert found.attributes["cutstream.reason"] == "IMAGE_UNDECODABLE"
    above = sent(workload, "broken")
    assert (above.failed, above.attributes["cutstream.reason"]) == (True, "IMAGE_UNDECODABLE")


def test_the_stage_that_failed_is_an_error_and_the_last_one(workload):
    stages = [(s.name, s.failed) for s in children(workload, image(workload, "broken")) if s.name != "queue"]
    assert stages == [("header", False), ("decode", True)]


def test_what_went_well_is_no_error(workload):
    good = {image(workload, name).trace_id for name in ("alone", "good-1", "good-2")} | {stream(workload).trace_id}
    assert [s for s in workload.spans if s.failed and s.trace_id in good] == []


@pytest.mark.parametrize("name", ["alone", "good-1", "broken", "good-2"])
def test_an_images_line_in_the_log_has_its_ids(workload, traced_server, name):
    lines = [json.loads(line) for line in traced_server.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("image_id") == workload.ids[name]]
    found = image(workload, name)
    assert (line["trace_id"], line["span_id"]) == (found.trace_id, found.span_id)
    assert (line["outcome"], line.get("reason")) == (
        found.attributes["cutstream.outcome"],
        found.attributes.get("cutstream.reason"),
    )


def test_a_trace_that_is_not_sampled_is_sent_by_nobody(workload, traced_server, collector, draw):
    picture = draw(disc())
    before = {s.trace_id for s in collector.spans}
    with traced_client(traced_server, collector, ALWAYS_OFF) as client:
        client.remove(picture, image_id="unsampled")
        list(client.stream([("unsampled-1", picture), ("unsampled-2", picture)]))
    later = []

    def send(attempt):
        later.append(f"later.{attempt}")
        with traced_client(traced_server, collector) as client:
            client.remove(picture, image_id=later[-1])
        return later[-1:]

    # All send in the order in which they work: what was made before the later image's spans has come by now.
    until_triton_tells(collector, send)
    spans = collector.spans
    expected = {find(spans, "image", cutstream_image_id=name).trace_id for name in later}
    assert {s.trace_id for s in spans} - before == expected


def test_an_invalid_context_is_ignored(traced_server, collector, draw):
    picture = draw(disc())
    request = pb.RemoveBackgroundRequest(image_id="odd", image=picture)
    chunk = pb.ImageChunk(image_id="odd-chunk", data=picture, last=True, traceparent="00-zz-1-01")
    messages = [
        pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig()),
        pb.StreamRemoveBackgroundRequest(chunk=chunk),
    ]
    with traced_server.stub() as stub:
        answer = stub.RemoveBackground(request, metadata=[("traceparent", "no context")])
        answers = list(stub.StreamRemoveBackground(iter(messages)))
    assert answer.HasField("cutout")
    assert answers[0].image.HasField("cutout")
    spans = collector.wait_for(is_there("odd", "odd-chunk"))
    below = find(spans, "image", cutstream_image_id="odd").parent_id
    spans = collector.wait_for(lambda spans: any(s.span_id == below for s in spans))
    assert (with_id(spans, below).parent_id, find(spans, "image", cutstream_image_id="odd-chunk").parent_id) == ("", "")


def test_the_command_line_prints_the_trace_that_the_server_sends(traced_server, collector, draw, tmp_path):
    (tmp_path / "a.png").write_bytes(draw(disc()))
    (tmp_path / "b.png").write_bytes(draw(disc(100)))
    command = [BIN / "cutstream", "remove", "a.png", "b.png", "--trace", "--target", traced_server.target]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = re.findall(r"^  trace ([0-9a-f]{32})$", run.stdout, re.MULTILINE)
    spans = collector.wait_for(is_there("a.png", "b.png"))
    told = [find(spans, "image", cutstream_image_id=name).trace_id for name in ("a.png", "b.png")]
    assert printed == told
    rows = re.findall(r"^  (\w+) .*█.* \d+\.\d{3} s$", run.stdout, re.MULTILINE)
    assert rows == ["client", "server", "queue", "decode", "segmentation", "refinement", "framing", "encoding"] * 2
