"""What is refused before any work, and that the refusal reaches the caller."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from running import running_server

from cutstream.v1 import cutstream_pb2 as pb


def details_of(error, kind, index):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found = kind()
    assert status.details[index].Unpack(found)
    return found


def test_the_most_violations_possible_fit_a_trailer(server):
    numbers = {
        field.name: -1.0 if field.cpp_type == field.CPPTYPE_DOUBLE else -1
        for field in pb.RemovalOptions.DESCRIPTOR.fields
        if field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_INT32} and not field.is_repeated
    }
    enums = {
        field.name: 77
        for field in pb.RemovalOptions.DESCRIPTOR.fields
        if field.cpp_type == field.CPPTYPE_ENUM and not field.is_repeated
    }
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.RemoveBackground(pb.RemoveBackgroundRequest(image=b"x", options=pb.RemovalOptions(**numbers, **enums)))
    violations = details_of(caught.value, error_details_pb2.BadRequest, 1).field_violations
    assert {violation.field for violation in violations} == {f"options.{name}" for name in numbers | enums}


def test_an_image_over_the_limit_is_a_typed_error_up_to_a_mebibyte_above_it(tmp_path):
    with running_server(tmp_path, CUTSTREAM_MAX_IMAGE_BYTES="100000") as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=bytes(1_100_000)))
        info = details_of(caught.value, error_details_pb2.ErrorInfo, 0)
        assert info.reason == "IMAGE_TOO_LARGE"
        assert dict(info.metadata) == {"limit": "100000", "measured": "1100000", "unit": "bytes"}
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=bytes(1_200_000)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
