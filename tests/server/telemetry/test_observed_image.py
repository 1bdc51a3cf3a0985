"""What one image leaves behind: its span, its stages, its log line, its figures."""

import asyncio
import logging

import pytest
from observing import Observer
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from cutstream_server.errors import DeadlineError, InternalFaultError, UnknownModelError
from cutstream_server.options import Options
from cutstream_server.report import ImageReport, SourceInfo
from cutstream_server.service import Outcome
from cutstream_server.telemetry.attributes import MAX_TEXT
from cutstream_server.telemetry.images import OFF, ObservedImage, stage_span, triton_request
from cutstream_server.workers import Workers

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01", f"00-{TRACE_ID}-{SPAN_ID}-00"


@pytest.fixture
def observer():
    return Observer()


def report(**options):
    made = ImageReport(Options(**options))
    made.source = SourceInfo(40, 30, "PNG", 1)
    with made.timed("total"):
        pass
    return made


def done(**options):
    return Outcome(report(**options))


def test_an_image_of_a_stream_continues_the_trace_of_its_chunk(observer):
    ObservedImage.in_stream(observer.telemetry, "a", SAMPLED).end(done())
    span = observer.span("image")
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize("traceparent", ["", "junk", f"00-{'0' * 32}-{SPAN_ID}-01", "\n" * 9999])
def test_without_a_valid_context_it_has_a_trace_of_its_own_with_a_link_to_the_stream(observer, traceparent):
    with observer.tracer.start_as_current_span("stream") as stream:
        ObservedImage.in_stream(observer.telemetry, "a", traceparent).end(done())
    span = observer.span("image")
    assert span.parent is None
    assert span.context.trace_id != stream.get_span_context().trace_id
    assert [link.context for link in span.links] == [stream.get_span_context()]


def test_the_image_of_a_call_is_below_the_calls_span(observer):
    with observer.tracer.start_as_current_span("call") as call:
        ObservedImage.in_call(observer.telemetry).end(done())
    assert observer.span("image").parent == call.get_span_context()


def test_an_image_that_is_not_sampled_leaves_figures_and_no_span(observer):
    ObservedImage.in_stream(observer.telemetry, "a", UNSAMPLED).end(done())
    assert observer.spans() == []
    assert observer.counts("cutstream.images") == {("ok",): 1}


def test_only_options_that_differ_from_the_servers_defaults_are_attributes():
    observer = Observer(defaults=Options(model="tiny"))
    ObservedImage.in_call(observer.telemetry).end(done(model="tiny", padding_percentage=0.5, preset="trellis"))
    options = {name: v for name, v in observer.span("image").attributes.items() if ".options." in name}
    assert options == {"cutstream.options.padding_percentage": 0.5, "cutstream.options.preset": "trellis"}


def test_a_callers_texts_are_cut_short(observer):
    name = "m" * 100_000
    image = ObservedImage.in_stream(observer.telemetry, "i" * 100_000, "")
    image.end(Outcome(report(model=name), error=UnknownModelError(f"no model {name!r}", model=name)))
    span = observer.span("image")
    texts = [value for value in span.attributes.values() if isinstance(value, str)]
    assert max(len(text) for text in [*texts, span.status.description]) == MAX_TEXT


def test_a_failure_is_an_error_with_its_reason(observer):
    ObservedImage.in_call(observer.telemetry).end(Outcome(report(), error=DeadlineError("too late")))
    span = observer.span("image")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "DEADLINE: too late"
    assert span.attributes["error.type"] == span.attributes["cutstream.reason"] == "DEADLINE"
    assert observer.counts("cutstream.images") == {("error", "DEADLINE"): 1}


def test_an_internal_fault_says_under_which_id_the_log_has_it(observer):
    ObservedImage.in_call(observer.telemetry).end(Outcome(error=InternalFaultError("a fault", fault_id="f00")))
    assert observer.span("image").attributes["cutstream.fault_id"] == "f00"


def test_an_image_without_outcome_was_cancelled(observer):
    image = ObservedImage.in_call(observer.telemetry)
    image.end(None)
    image.end(done())
    assert observer.counts("cutstream.images") == {("error", "CANCELLED"): 1}
    assert observer.span("image").attributes["cutstream.reason"] == "CANCELLED"


def test_a_stage_is_a_span_below_the_image_also_in_a_worker_thread(observer):
    async def work():
        workers, made = Workers(1), ImageReport(Options())
        image = ObservedImage.in_call(observer.telemetry)
        with image.active():
            await workers.run(made, "decode", int)
        image.end(Outcome(made))
        workers.close()

    asyncio.run(work())
    assert observer.span("decode").parent == observer.span("image").context


def test_a_part_of_a_stage_has_no_span_of_its_own(observer):
    made = ImageReport(Options())
    with ObservedImage.in_call(observer.telemetry).active():
        with stage_span("framing"), made.stage("framing"):
            pass
        with made.stage("encoding"):
            pass
    assert [span.name for span in observer.spans()] == ["framing", "encoding"]


def test_a_stage_that_fails_is_an_error(observer):
    made = ImageReport(Options())
    with (
        ObservedImage.in_call(observer.telemetry).active(),
        pytest.raises(DeadlineError),
        made.stage("decode"),
    ):
        raise DeadlineError("too late")
    assert observer.span("decode").status.description == "DeadlineError: too late"


@pytest.mark.parametrize(("seconds", "count"), [(0.099, 0), (0.25, 1)])
def test_only_a_wait_of_a_tenth_of_a_second_is_a_span(observer, seconds, count):
    with ObservedImage.in_call(observer.telemetry).active():
        ImageReport(Options()).add_wait(seconds)
    spans = observer.spans("queue")
    assert [round((span.end_time - span.start_time) / 1e9, 3) for span in spans] == [seconds] * count


@pytest.mark.parametrize(("traceparent", "names"), [(SAMPLED, {"traceparent"}), (UNSAMPLED, set())])
def test_triton_gets_a_context_of_sampled_traces_only(observer, traceparent, names):
    with ObservedImage.in_stream(observer.telemetry, "a", traceparent).active(), triton_request("tiny") as headers:
        assert set(headers) == names


def test_triton_gets_the_span_that_waits_for_it_as_parent(observer):
    made = ImageReport(Options())
    image = ObservedImage.in_call(observer.telemetry)
    with image.active(), made.stage("segmentation"), triton_request("tiny") as headers:
        pass
    context = observer.span("segmentation").context
    assert headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


def test_a_trace_goes_on_to_triton_through_a_server_that_traces_nothing():
    with ObservedImage.in_stream(OFF, "a", SAMPLED).active(), triton_request("tiny") as headers:
        assert headers["traceparent"] == SAMPLED


def test_a_probe_has_no_context_and_no_figures(observer):
    with triton_request("tiny") as headers:
        assert dict(headers) == {}
    assert observer.counts("cutstream.triton.request.duration") == {}


def test_tritons_answers_are_counted_by_model_and_status(observer):
    with ObservedImage.in_call(observer.telemetry).active():
        with triton_request("tiny"):
            pass
        with pytest.raises(DeadlineError), triton_request("tiny"):
            raise DeadlineError("too late")
        with pytest.raises(asyncio.CancelledError), triton_request("tiny"):
            raise asyncio.CancelledError
    counts = observer.counts("cutstream.triton.request.duration")
    assert counts == {("tiny", "OK"): 1, ("tiny", "DEADLINE"): 1, ("tiny", "CANCELLED"): 1}


def test_an_attempt_of_triton_that_failed_is_an_event_of_its_stage(observer):
    with ObservedImage.in_call(observer.telemetry).active(), ImageReport(Options()).stage("segmentation"):
        with pytest.raises(DeadlineError), triton_request("tiny"):
            raise DeadlineError("too late")
        with triton_request("tiny"):
            pass
    (event,) = observer.span("segmentation").events
    assert (event.name, event.attributes["cutstream.reason"]) == ("attempt failed", "DEADLINE")


def test_a_figure_names_the_trace_that_it_is_from(observer):
    ObservedImage.in_stream(observer.telemetry, "a", SAMPLED).end(done())
    (point,) = observer.points("cutstream.image.duration").values()
    (example,) = point.exemplars
    assert f"{example.trace_id:032x}" == TRACE_ID


@pytest.mark.parametrize(("log_images", "level"), [(False, logging.DEBUG), (True, logging.INFO)])
def test_an_image_is_a_line_at_debug_unless_asked_for(caplog, log_images, level):
    caplog.set_level(logging.DEBUG)
    ObservedImage.in_call(Observer(log_images=log_images).telemetry).end(done())
    (line,) = [r for r in caplog.records if r.name.startswith("cutstream_server")]
    assert (line.levelno, line.fields["outcome"]) == (level, "ok")


def test_nothing_is_traced_where_the_sampler_says_so():
    observer = Observer(ALWAYS_OFF)
    image = ObservedImage.in_call(observer.telemetry)
    with image.active(), ImageReport(Options()).stage("decode"), triton_request("tiny") as headers:
        assert dict(headers) == {}
    image.end(done())
    assert observer.spans() == []
