"""What SIGTERM does to those who are connected; tests/integration/test_lifecycle.py has the stream that resumes."""

import signal
import threading
import time

import grpc
import numpy as np
import pytest
from benchmarks.bulk.transfer import cpu_seconds
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import STOP_SECONDS, descendants, read, running_server

from cutstream.v1 import cutstream_pb2 as pb

CONFIG = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=pb.RemovalOptions(model="tiny")))
# A second or two of work: noise packed as small as it can be.
SLOW = pb.RemovalOptions(model="tiny", output_width_px=1400, png_compression_level=9)
# A minute of it: more than anybody waits for.
SLOWEST = pb.RemovalOptions(
    model="tiny", output_width_px=4096, png_compression_level=9, sample_type=pb.SAMPLE_TYPE_UINT16
)
# All before the encoder takes less.
ENCODER_SECONDS = 8.0


@pytest.fixture
def noise(draw):
    return draw(np.random.default_rng(0).random((700, 700)))


def reason_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


def slow_stream(image, ended, options=SLOW):
    """A slow image and a quick one: when that is answered, the slow one is being worked on."""
    yield CONFIG
    yield pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id="slow", data=image, last=True, options=options))
    yield pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id="quick", data=image, last=True))
    ended.wait(STOP_SECONDS)


def wait_until_encoding(process):
    """Returns when the slowest image is past all that can be stopped: only its encoder computes for so long."""
    begin = cpu_seconds(process)
    while cpu_seconds(process) < begin + ENCODER_SECONDS:
        time.sleep(0.1)


@pytest.fixture
def own_server(tmp_path):
    """Slow machines need time for the slow image."""
    with running_server(tmp_path, CUTSTREAM_DRAIN_SECONDS="120") as server:
        yield server


def test_an_accepted_image_is_answered_while_health_says_no_and_new_calls_go_elsewhere(own_server, noise):
    ended, states, kinds = threading.Event(), [], []
    with own_server.stub() as stub, grpc.insecure_channel(own_server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = stub.StreamRemoveBackground(slow_stream(noise, ended))
        assert next(call).image.image_id == "quick"
        own_server.process.send_signal(signal.SIGTERM)
        states.append(next(watch).status)
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=noise))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - it comes at the end of the answers
            for answer in call:
                kinds.append(answer.WhichOneof("payload"))
        ended.set()
    assert states == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert kinds[-2:] == ["image", "summary"]
    assert "cutout_chunk" in kinds
    assert reason_of(caught.value) == "DRAINING"
    assert own_server.process.wait(STOP_SECONDS) == 0


def test_an_open_stream_without_images_ends_at_once(own_server):
    ended = threading.Event()

    def idle():
        yield CONFIG
        ended.wait(STOP_SECONDS)

    with own_server.stub() as stub:
        call = stub.StreamRemoveBackground(idle())
        stub.GetServerInfo(pb.GetServerInfoRequest())
        own_server.process.send_signal(signal.SIGTERM)
        assert next(call).summary.draining
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        ended.set()
    assert reason_of(caught.value) == "DRAINING"


def test_an_image_that_takes_longer_than_the_drain_does_not_keep_the_server_from_ending(tmp_path, noise):
    ended = threading.Event()
    with running_server(tmp_path, CUTSTREAM_DRAIN_SECONDS="1") as server, server.stub() as stub:
        call = stub.StreamRemoveBackground(slow_stream(noise, ended, SLOWEST))
        assert next(call).image.image_id == "quick"
        wait_until_encoding(server.process.pid)
        processes = descendants(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 0
        ended.set()
        assert "ending without the images" in server.log.read_text()
        assert [process for process in processes if read(f"/proc/{process}/cmdline")] == []


def test_a_client_that_does_not_read_does_not_keep_the_server_from_ending(tmp_path, noise):
    raw = pb.RemovalOptions(model="tiny", output_width_px=2048, output_format=pb.OUTPUT_FORMAT_RAW)
    ended = threading.Event()

    def many():
        yield CONFIG
        for number in range(6):
            yield pb.StreamRemoveBackgroundRequest(
                chunk=pb.ImageChunk(image_id=str(number), data=noise, last=True, options=raw)
            )
        ended.wait(STOP_SECONDS)

    with running_server(tmp_path, CUTSTREAM_DRAIN_SECONDS="2") as server, server.stub() as stub:
        call = stub.StreamRemoveBackground(many())
        assert next(call).WhichOneof("payload") == "cutout_chunk"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 0
        ended.set()
        call.cancel()
