"""The figures at the Prometheus endpoints of the server and of its Triton after a workload that is known."""

import re
import socket
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from running import free_port, running_server

import cutstream
from cutstream.v1 import cutstream_pb2 as pb

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UNARY = "cutstream.v1.BackgroundRemovalService/RemoveBackground"
STREAM = "cutstream.v1.BackgroundRemovalService/StreamRemoveBackground"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

# Of the workload in `scraped`: how many images had an object, ran the network, were decoded.
GOOD, SEGMENTED, DECODED = 6, 7, 8
DISC_AREA = np.pi / 16  # with a radius of a quarter of the picture's side


def disc(side=200):
    y, x = np.mgrid[:side, :side] + 0.5
    return (np.hypot(x - side / 2, y - side / 2) < side / 4).astype(float)


def get(url, accept="text/plain"):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
        return answer.read().decode()


class Figures:
    """The samples of one scrape."""

    def __init__(self, families):
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name, **labels):
        """The sum of the samples of a name that have these labels."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no sample of {name} {labels}"
        return sum(found)


def triton_metrics_url(server):
    (triton,) = server.triton_processes("tritonserver")
    port = re.search(r"--metrics-port=(\d+)", Path(f"/proc/{triton}/cmdline").read_text())[1]
    return f"http://127.0.0.1:{port}/metrics"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory, draw):
    """Three good unary calls, one for a model that is not there, one for a method that is not there; a stream of three
    good images, a broken and an empty one.
    """
    port = free_port()
    good, empty = draw(disc()), draw(np.zeros((200, 200)))
    # The fast profile runs the network once.
    settings = {"CUTSTREAM_METRICS_LISTEN": f"127.0.0.1:{port}", "CUTSTREAM_PROFILE": "fast"}
    with running_server(tmp_path_factory.mktemp("metrics"), **settings) as server:
        triton_before = Figures(parse_text(get(triton_metrics_url(server))))
        with server.client() as client:
            cutouts = [client.remove(good), client.remove(good)]
            with pytest.raises(cutstream.CutoutError, match="UNKNOWN_MODEL"):
                client.remove(good, model="no such model")
            results = [*cutouts, *client.stream([good, good, good, b"broken", empty])]
        with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            channel.unary_unary("/made.up/Method")(b"")
        with server.stub() as stub:
            sampled = [("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01")]
            last = stub.RemoveBackground(pb.RemoveBackgroundRequest(image=good), metadata=sampled)
        url = f"http://127.0.0.1:{port}/metrics"
        yield SimpleNamespace(
            ours=Figures(parse_openmetrics(get(url, OPENMETRICS))),
            plain=Figures(parse_text(get(url))),
            triton=Figures(parse_text(get(triton_metrics_url(server)))),
            triton_before=triton_before,
            confidences=[r.metrics.confidence for r in (*results, last) if r.metrics.confidence is not None],
        )


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"outcome": "ok", "reason": ""}, GOOD),
        ({"outcome": "error"}, 3),
        ({"outcome": "error", "reason": "UNKNOWN_MODEL"}, 1),
        ({"outcome": "error", "reason": "UNSUPPORTED_FORMAT"}, 1),
        ({"outcome": "error", "reason": "NO_OBJECT"}, 1),
    ],
)
def test_images_are_counted_by_outcome_and_reason(scraped, labels, count):
    assert scraped.ours("cutstream_images_total", **labels) == count


@pytest.mark.parametrize(("outcome", "count"), [("ok", GOOD), ("error", 3)])
def test_an_images_time_is_measured_by_outcome_and_profile(scraped, outcome, count):
    labels = {"outcome": outcome, "profile": "fast"}
    assert scraped.ours("cutstream_image_duration_seconds_count", **labels) == count


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("queue", DECODED),
        ("decode", DECODED),
        ("segmentation", SEGMENTED),
        ("refinement", SEGMENTED),
        ("framing", SEGMENTED),
        ("encoding", GOOD),
    ],
)
def test_each_stage_counts_the_images_that_reached_it(scraped, stage, count):
    assert scraped.ours("cutstream_stage_duration_seconds_count", stage=stage) == count


def test_the_stages_of_an_image_take_no_longer_than_the_image(scraped):
    images = scraped.ours("cutstream_image_duration_seconds_sum")
    assert 0 < scraped.ours("cutstream_stage_duration_seconds_sum") <= images


@pytest.mark.parametrize(
    ("method", "code", "count"),
    [(UNARY, "OK", 3), (UNARY, "INVALID_ARGUMENT", 1), (STREAM, "OK", 1), ("_OTHER", "UNIMPLEMENTED", 1)],
)
def test_calls_are_counted_by_method_and_true_status(scraped, method, code, count):
    labels = {"rpc_method": method, "rpc_response_status_code": code}
    assert scraped.ours("rpc_server_call_duration_seconds_count", **labels) == count


def test_probes_and_made_up_names_make_no_series(scraped):
    methods = {s.labels["rpc_method"] for s in scraped.ours.samples if "rpc_method" in s.labels}
    models = {s.labels["model"] for s in scraped.ours.samples if "model" in s.labels}
    assert (methods, models) == ({UNARY, STREAM, "_OTHER"}, {"tiny"})


@pytest.mark.parametrize(
    ("name", "count", "total"),
    [
        ("cutstream_object_coverage", SEGMENTED, GOOD * DISC_AREA),
        ("cutstream_centering_score", GOOD, GOOD),
    ],
)
def test_what_the_model_saw_is_measured(scraped, name, count, total):
    assert scraped.ours(f"{name}_count", model="tiny") == count
    assert scraped.ours(f"{name}_sum", model="tiny") == pytest.approx(total, rel=0.03)


def test_the_models_confidence_is_what_the_callers_were_told(scraped):
    name = "cutstream_mask_confidence"
    assert len(scraped.confidences) == scraped.ours(f"{name}_count", model="tiny") == SEGMENTED
    assert scraped.ours(f"{name}_sum", model="tiny") == pytest.approx(sum(scraped.confidences))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutstream_streams_open", 0),
        ("cutstream_images_in_flight", 0),
        ("cutstream_images_waiting", 0),
        ("cutstream_bytes_in_flight", 0),
        ("cutstream_admission_images_limit", 16),
        ("cutstream_admission_bytes_limit", 256 * 2**20),
        ("cutstream_admission_rejected_total", 0),
        ("cutstream_triton_available", 1),
        ("cutstream_triton_restarts_total", 0),
    ],
)
def test_the_state_at_rest(scraped, name, value):
    assert scraped.ours(name) == value


def test_tritons_answers_are_timed(scraped):
    assert scraped.ours("cutstream_triton_request_duration_seconds_count", model="tiny", status="OK") == SEGMENTED


def test_triton_counts_at_least_our_images(scraped):
    # Its liveness probes come on top.
    name = "nv_inference_request_success_total"  # Triton leaves the suffix out, the parser adds it
    assert scraped.triton(name, model="tiny") - scraped.triton_before(name, model="tiny") >= SEGMENTED
    assert scraped.triton("nv_inference_request_failure_total", model="tiny") == 0


def test_openmetrics_has_the_trace_of_a_sampled_image_as_an_example(scraped):
    name = "cutstream_image_duration_seconds_bucket"
    examples = [s.exemplar.labels for s in scraped.ours.samples if s.name == name and s.exemplar]
    assert examples == [{"trace_id": TRACE_ID, "span_id": SPAN_ID}]


def test_the_plain_format_has_the_same_figures(scraped):
    ours = {s.name for s in scraped.ours.samples if s.name.startswith(("cutstream", "rpc"))}
    # OpenMetrics adds the time at which a counter began.
    assert {s.name for s in scraped.plain.samples if s.name.startswith(("cutstream", "rpc"))} == {
        name for name in ours if not name.endswith("_created")
    }
    assert scraped.plain("cutstream_images_total", outcome="ok") == GOOD


def test_the_process_tells_its_memory(scraped):
    assert scraped.ours("process_resident_memory_bytes") > 2**20


def test_an_address_that_is_taken_stops_the_start(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(AssertionError, match=f"cannot listen on CUTSTREAM_METRICS_LISTEN={address}"),
            running_server(tmp_path, CUTSTREAM_METRICS_LISTEN=address),
        ):
            pass
