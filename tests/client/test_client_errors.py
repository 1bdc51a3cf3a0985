"""CutoutError as people and programs meet it, and how it is made from what the server or gRPC says."""

from __future__ import annotations

import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from cutstream import CutoutError, FieldViolation, Metrics
from cutstream.convert import error_from_rpc, error_from_status
from cutstream.v1 import cutstream_pb2 as pb


def packed(*messages: object) -> list[AnyMessage]:
    details = []
    for message in messages:
        detail = AnyMessage()
        detail.Pack(message)
        details.append(detail)
    return details


def rpc_error(code: grpc.StatusCode, trailer: bytes | None = None, details: str = "words") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(("other", "x"))
    if trailer is not None:
        trailing.add("grpc-status-details-bin", trailer)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def test_an_error_reads_as_reason_and_message():
    assert str(CutoutError("NO_OBJECT", "nothing there")) == "NO_OBJECT: nothing there"


def test_an_error_survives_pickling():
    error = CutoutError(
        "X", "m", code=grpc.StatusCode.ABORTED, image_id="i", metadata={"k": "v"}, metrics=Metrics(threshold=0.5)
    )
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert again.args == error.args


def test_a_status_brings_reason_code_message_and_metadata():
    info = error_details_pb2.ErrorInfo(reason="IMAGE_TOO_LARGE", domain="cutstream", metadata={"limit": "5"})
    error = error_from_status(status_pb2.Status(code=3, message="too large", details=packed(info)), "cat")
    assert (error.reason, error.code, error.message) == (
        "IMAGE_TOO_LARGE",
        grpc.StatusCode.INVALID_ARGUMENT,
        "too large",
    )
    assert (error.metadata, error.image_id, error.metrics) == ({"limit": "5"}, "cat", None)


def test_a_status_brings_every_violation():
    wrong = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="options.framing", description="d1"),
            error_details_pb2.BadRequest.FieldViolation(field="options.preset", description="d2"),
        ]
    )
    error = error_from_status(status_pb2.Status(code=3, details=packed(wrong)))
    assert error.violations == (FieldViolation("options.framing", "d1"), FieldViolation("options.preset", "d2"))


def test_a_status_brings_the_wait_that_the_server_asks_for():
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1250)
    assert error_from_status(status_pb2.Status(code=8, details=packed(retry))).retry_after_seconds == 1.25


def test_metrics_come_from_the_details_of_a_status():
    error = error_from_status(status_pb2.Status(code=9, details=packed(pb.Metrics(alpha_coverage=0.125))))
    assert error.metrics is not None
    assert error.metrics.alpha_coverage == 0.125


def test_a_status_without_reason_has_the_name_of_its_code():
    assert error_from_status(status_pb2.Status(code=7)).reason == "PERMISSION_DENIED"


def test_a_failed_call_uses_the_status_of_its_trailer():
    info = error_details_pb2.ErrorInfo(reason="NO_OBJECT", domain="cutstream")
    status = status_pb2.Status(code=9, message="none", details=packed(info))
    error = error_from_rpc(rpc_error(grpc.StatusCode.FAILED_PRECONDITION, status.SerializeToString()))
    assert (error.reason, error.message) == ("NO_OBJECT", "none")
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "CONNECTION_LOST"),
        (grpc.StatusCode.CANCELLED, "CONNECTION_LOST"),
        (grpc.StatusCode.INTERNAL, "CONNECTION_LOST"),
        (grpc.StatusCode.UNKNOWN, "CONNECTION_LOST"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE"),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_failed_call_without_status_is_named_by_its_code(code, reason):
    error = error_from_rpc(rpc_error(code))
    assert (error.reason, error.code, error.message) == (reason, code, "words")
