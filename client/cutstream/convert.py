"""From protobuf messages and gRPC errors to the dataclasses of this library."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from cutstream.errors import CONNECTION_LOST, DEADLINE, CutoutError, FieldViolation
from cutstream.geometry import Box, CropBox
from cutstream.options import enum_name, options_from_proto
from cutstream.results import (
    Centering,
    Cutout,
    Metrics,
    ModelInfo,
    PresetInfo,
    ServerInfo,
    ServerLimits,
    StageDurations,
    TritonInfo,
)
from cutstream.v1 import cutstream_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

_STATUS_TRAILER = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Without a reason of the server these codes say only that the connection, a proxy or the server's process broke off:
# a reset stream arrives as any of the four.
_REASONS_WITHOUT_STATUS = {
    grpc.StatusCode.UNAVAILABLE: CONNECTION_LOST,
    grpc.StatusCode.CANCELLED: CONNECTION_LOST,
    grpc.StatusCode.INTERNAL: CONNECTION_LOST,
    grpc.StatusCode.UNKNOWN: CONNECTION_LOST,
    grpc.StatusCode.DEADLINE_EXCEEDED: DEADLINE,
}


def cutout_from_proto(image_id: str, cutout: pb.Cutout, data: bytes, metrics: pb.Metrics) -> Cutout:
    """The cutout whose encoded bytes are `data`, wherever they came from."""
    crop = cutout.crop
    return Cutout(
        data=data,
        media_type=cutout.media_type,
        width_px=cutout.width_px,
        height_px=cutout.height_px,
        crop=CropBox(crop.left_px, crop.top_px, crop.width_px, crop.height_px) if cutout.HasField("crop") else None,
        metrics=metrics_from_proto(metrics),
        image_id=image_id,
    )


def metrics_from_proto(message: pb.Metrics) -> Metrics:
    """The metrics; whatever the message leaves out is None or empty."""
    special: dict[str, Any] = {
        "foreground_box": _box(message.foreground_box) if message.HasField("foreground_box") else None,
        "validation": _enum(message, "validation"),
        "alpha_source": _enum(message, "alpha_source"),
        "centering": Centering(**_set_scalars(message.centering)) if message.HasField("centering") else None,
        "effective_options": options_from_proto(message.effective_options),
        "durations": durations_from_proto(message.durations) if message.HasField("durations") else None,
    }
    scalars = {name: value for name, value in _set_scalars(message).items() if name not in special}
    return Metrics(**scalars, **special)


def durations_from_proto(message: pb.StageDurations) -> StageDurations:
    """The time of each stage in seconds."""
    return StageDurations(**{f"{field.name}_seconds": _seconds(value) for field, value in message.ListFields()})


def server_info_from_proto(message: pb.GetServerInfoResponse) -> ServerInfo:
    """The answer of GetServerInfo."""
    limits = message.limits
    return ServerInfo(
        version=message.version,
        models=tuple(_model_info(model) for model in message.models),
        default_options=options_from_proto(message.default_options),
        presets=tuple(
            PresetInfo(preset.name, preset.description, options_from_proto(preset.options))
            for preset in message.presets
        ),
        limits=ServerLimits(
            max_image_bytes=limits.max_image_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_in_flight=limits.max_in_flight,
            max_bytes_in_flight=limits.max_bytes_in_flight,
            max_chunk_bytes=limits.max_chunk_bytes,
            max_unary_cutout_bytes=limits.max_unary_cutout_bytes,
            image_timeout_seconds=_seconds(limits.image_timeout) if limits.HasField("image_timeout") else None,
            upload_timeout_seconds=_seconds(limits.upload_timeout) if limits.HasField("upload_timeout") else None,
        ),
        triton=TritonInfo(message.triton.embedded, message.triton.ready, message.triton.transport),
        input_formats=tuple(message.input_formats),
    )


def _model_info(message: pb.ModelInfo) -> ModelInfo:
    return ModelInfo(
        message.name,
        message.version,
        _enum(message, "state"),
        message.licence,
        message.commercial_use if message.HasField("commercial_use") else None,
        message.side_px,
        message.other_sides,
    )


def error_from_status(status: status_pb2.Status, image_id: str = "", metrics: pb.Metrics | None = None) -> CutoutError:
    """The error of a google.rpc.Status; metrics packed into its details count when none are given."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    info = _detail(status, error_details_pb2.ErrorInfo)
    bad_request = _detail(status, error_details_pb2.BadRequest)
    retry_info = _detail(status, error_details_pb2.RetryInfo)
    measured = metrics if metrics is not None else _detail(status, pb.Metrics)
    return CutoutError(
        info.reason if info is not None else code.name,
        status.message,
        code=code,
        image_id=image_id,
        metadata=info.metadata if info is not None else None,
        violations=[FieldViolation(wrong.field, wrong.description) for wrong in bad_request.field_violations]
        if bad_request is not None
        else (),
        metrics=metrics_from_proto(measured) if measured is not None else None,
        retry_after_seconds=_seconds(retry_info.retry_delay) if retry_info is not None else None,
    )


def error_from_rpc(error: grpc.aio.AioRpcError) -> CutoutError:
    """The error of a failed call: the server's own Status if it sent one, else what the transport says."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_TRAILER:
            failure = error_from_status(status_pb2.Status.FromString(value))
            break
    else:
        code = error.code()
        reason = _REASONS_WITHOUT_STATUS.get(code, code.name)
        failure = CutoutError(reason, error.details() or code.name, code=code)
    failure.__cause__ = error
    return failure


@contextlib.contextmanager
def cutout_errors() -> Iterator[None]:
    """Raises what goes wrong in a call of grpc.aio as CutoutError; lets the cancellation of the own task through.

    grpc.aio raises asyncio.CancelledError also when the *other* side ends a call with CANCELLED, as proxies and
    stopping servers do: taken for a cancellation it would end the waiting task without a word.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise connection_lost("the call was cancelled by the other side") from error


def connection_lost(message: str) -> CutoutError:
    """The error of a stream that ended without answering its images and without saying why."""
    return CutoutError(CONNECTION_LOST, message, code=grpc.StatusCode.UNAVAILABLE)


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any:
    """The first detail of that message type, or None."""
    packed: AnyMessage
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            return detail
    return None


def _set_scalars(message: Message) -> dict[str, Any]:
    """The scalar fields that are set, by name."""
    return {field.name: value for field, value in message.ListFields() if field.message_type is None}


def _enum(message: Message, name: str) -> Any:
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    assert enum is not None
    return enum_name(enum, getattr(message, name))


def _box(message: pb.Box) -> Box:
    return Box(message.left_px, message.top_px, message.width_px, message.height_px)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
