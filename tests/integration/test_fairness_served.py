"""A real server whose places are all taken by clients that never finish."""

import threading
import time

import grpc
import pytest
from benchmarks.robustness.service import running_service
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc

# Together nearly all of the 256 MiB that the server may hold by default.
STREAMS, ANNOUNCED_BYTES = 8, 30_000_000


def unfinished(ended):
    """Announces a large image and never sends it."""
    yield pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=pb.RemovalOptions(model="tiny")))
    yield pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id="0", data=b"x", size_bytes=ANNOUNCED_BYTES))
    ended.wait(60)


@pytest.fixture
def channel(tiny_service):
    with grpc.insecure_channel(tiny_service.target) as channel:
        yield channel


@pytest.fixture
def full(channel):
    """A stub of the server while it has less room than a unary call might need."""
    stub, ended = cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel), threading.Event()
    calls = [stub.StreamRemoveBackground(unfinished(ended)) for _ in range(STREAMS)]
    yield stub
    ended.set()
    for call in calls:
        call.cancel()


def refusal(stub):
    """The error of a call that finds no room; the streams may need a moment to be there."""
    for _ in range(100):
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"x"))
        if caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return caught.value
        time.sleep(0.05)
    raise AssertionError("the server is never full")


def test_health_and_information_are_answered_by_a_full_server(channel, full):
    status = status_pb2.Status.FromString(dict(refusal(full).trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert full.GetServerInfo(pb.GetServerInfoRequest(), timeout=20).limits.max_in_flight == 16


def test_one_connection_carries_so_many_calls_and_another_one_is_not_kept_waiting(tmp_path):
    with running_service(tmp_path, CUTSTREAM_MAX_CALLS_PER_CONNECTION="2") as service:
        ended, private = threading.Event(), [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(service.target, private) as first, grpc.insecure_channel(service.target) as other:
            stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(first)
            stub.GetServerInfo(pb.GetServerInfoRequest())  # From here on the client knows the limit.
            calls = [stub.StreamRemoveBackground(unfinished(ended)) for _ in range(2)]
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=1)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            info = cutstream_pb2_grpc.BackgroundRemovalServiceStub(other).GetServerInfo(pb.GetServerInfoRequest())
            assert info.limits.max_in_flight == 16
            ended.set()
            for call in calls:
                call.cancel()
