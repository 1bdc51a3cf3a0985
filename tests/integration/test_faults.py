"""Triton and the server fail under the client library; `make soak` has them fail more often."""

import os
import subprocess
from collections import Counter

import grpc
import pytest
from benchmarks.robustness.faults import under_kills, under_replacements
from benchmarks.robustness.material import encoded, picture
from benchmarks.robustness.service import running_service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from running import BIN, STOP_SECONDS, free_port

import cutstream


@pytest.fixture
def own_service(tmp_path):
    with running_service(tmp_path) as service:
        yield service


def test_all_images_are_cutouts_though_triton_is_killed_and_stopped(own_service):
    run = under_kills(own_service, images=70, kills=2, good_seconds=1.0, stopped_seconds=2.0)
    assert run.answers == Counter(cutout=70)
    assert len(run.recoveries) == 2


def test_all_images_are_cutouts_though_the_server_is_replaced(own_service):
    run = under_replacements(own_service, images=60, replacements=1, good_seconds=1.0)
    assert run.answers == Counter(cutout=60)
    assert len(run.recoveries) == 1


@pytest.fixture
def without_triton(tmp_path):
    """The address of a server whose Triton is not there."""
    target = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "CUTSTREAM_TRITON": "127.0.0.1:1", "CUTSTREAM_MODEL": "tiny"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen([BIN / "cutstream-server", "serve", "--listen", target], env=environment, stderr=log)
    yield target
    process.terminate()
    assert process.wait(STOP_SECONDS) == 0


def test_a_server_whose_triton_is_not_there_says_so_and_answers(without_triton):
    with grpc.insecure_channel(without_triton) as channel:
        grpc.channel_ready_future(channel).result(STOP_SECONDS)
        state = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert state.status == health_pb2.HealthCheckResponse.NOT_SERVING
    with cutstream.Client(without_triton, retry=cutstream.RetryConfig(max_attempts=1)) as client:
        assert client.info().triton.ready is False
        with pytest.raises(cutstream.CutoutError) as caught:
            client.remove(encoded(Image.fromarray(picture()), "PNG"), processing_timeout=0.5)
    assert caught.value.reason in {"MODEL_UNAVAILABLE", "DEADLINE"}


def test_an_image_that_needs_no_network_needs_no_triton(without_triton):
    glass = Image.fromarray(picture()).convert("RGBA")
    glass.putalpha(glass.getchannel("R"))
    with cutstream.Client(without_triton) as client:
        assert client.remove(encoded(glass, "PNG")).metrics.alpha_source == "input"
