"""The one module that knows both the messages of the API and the types of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.errors import (
    CutstreamError,
    FieldViolation,
    InvalidOptionsError,
    OverloadedError,
)
from cutstream_server.imaging.geometry import Box, CropBox
from cutstream_server.imaging.quality import Centering, MaskMetrics
from cutstream_server.options import Region
from cutstream_server.report import Cutout, ImageReport
from cutstream_server.segmentation.catalog import ModelCatalog, ModelState

ERROR_DOMAIN: Final = "cutstream"
MAX_IMAGE_ID_BYTES: Final = 256
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

STATUS_CODES: Final[Mapping[str, grpc.StatusCode]] = {
    "IMAGE_EMPTY": grpc.StatusCode.INVALID_ARGUMENT,
    "IMAGE_UNDECODABLE": grpc.StatusCode.INVALID_ARGUMENT,
    "UNSUPPORTED_FORMAT": grpc.StatusCode.INVALID_ARGUMENT,
    "IMAGE_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INCOMPLETE_IMAGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_OPTIONS": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_MODEL": grpc.StatusCode.INVALID_ARGUMENT,
    "OUTPUT_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "PROTOCOL_VIOLATION": grpc.StatusCode.INVALID_ARGUMENT,
    "NO_OBJECT": grpc.StatusCode.FAILED_PRECONDITION,
    "OBJECT_TOO_SMALL": grpc.StatusCode.FAILED_PRECONDITION,
    "OBJECT_TOO_LARGE": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEADLINE": grpc.StatusCode.DEADLINE_EXCEEDED,
    "UPLOAD_TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "INTERNAL_FAULT": grpc.StatusCode.INTERNAL,
}


def check_image_id(image_id: str) -> None:
    """Checks an id of a unary call, where it may be empty.

    Raises:
        InvalidOptionsError: when it is longer than 256 bytes.
    """
    size = len(image_id.encode())
    if size > MAX_IMAGE_ID_BYTES:
        raise InvalidOptionsError([FieldViolation("image_id", f"{size} bytes exceed {MAX_IMAGE_ID_BYTES}")])


def options_from_message(message: pb.RemovalOptions) -> dict[str, Any]:
    """Gives the options that a message sets, by name, enums as lower-case words, durations in seconds.

    Unset fields, empty lists and enums that are zero ("the default") are left out. Nothing is checked here: an enum
    value that this version does not know stays a number, for `OptionResolver` to refuse with all else that is wrong.
    """
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.enum_type is None:
            values[field.name] = _plain(field, value)
        elif value != 0:
            values[field.name] = _enum_word(field.enum_type, value)
    return values


def _plain(field: FieldDescriptor, value: Any) -> Any:
    """Turns the value of a field that is no enum into what `Options` takes."""
    if field.name == "processing_timeout":
        return value.seconds + value.nanos / 1e9
    if field.name == "region_of_interest":
        return {edge.name: getattr(value, edge.name) for edge in value.DESCRIPTOR.fields}
    if field.name == "multi_scale_factors":
        return tuple(value)
    return value


def options_to_message(values: Mapping[str, Any]) -> pb.RemovalOptions:
    """Writes options into a message; those that are None stay unset."""
    message = pb.RemovalOptions()
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.name)
        if value is None:
            continue
        if field.enum_type is not None:
            setattr(
                message,
                field.name,
                field.enum_type.values_by_name[_enum_prefix(field.enum_type) + value.upper()].number,
            )
        elif field.name == "processing_timeout":
            message.processing_timeout.CopyFrom(seconds_to_duration(value))
        elif field.name == "region_of_interest":
            message.region_of_interest.CopyFrom(pb.Box(**Region.model_validate(value).model_dump()))
        elif field.name == "multi_scale_factors":
            message.multi_scale_factors.extend(value)
        else:
            setattr(message, field.name, value)
    return message


def _enum_prefix(enum: EnumDescriptor) -> str:
    """Gives what every value of the enum begins with: the type's name, as the style guide asks, and an underscore."""
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def _enum_word(enum: EnumDescriptor, number: int) -> str | int:
    if number not in enum.values_by_number:
        return number
    return str(enum.values_by_number[number].name).removeprefix(_enum_prefix(enum)).lower()


def seconds_to_duration(seconds: float) -> Duration:
    """Turns seconds, at least 0, into a Duration; rounds to nanoseconds."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def cutout_to_message(cutout: Cutout) -> pb.Cutout:
    """Writes a cutout with its image."""
    return pb.Cutout(
        image=cutout.image,
        media_type=cutout.media_type,
        width_px=cutout.width_px,
        height_px=cutout.height_px,
        crop=_crop_to_message(cutout.crop),
    )


def _crop_to_message(crop: CropBox) -> pb.CropBox:
    return pb.CropBox(left_px=crop.left, top_px=crop.top, width_px=crop.width, height_px=crop.height)


def _box_to_message(box: Box) -> pb.Box:
    return pb.Box(left_px=box.left, top_px=box.top, width_px=box.width, height_px=box.height)


def metrics_to_message(report: ImageReport) -> pb.Metrics:
    """Writes all that is known about an image; what was not reached stays unset."""
    message = pb.Metrics(
        model_name=report.model_name,
        model_version=report.model_version,
        effective_options=options_to_message(report.options.model_dump()),
        durations=durations_to_message(report.seconds),
    )
    if report.source is not None:
        message.source_width_px = report.source.width_px
        message.source_height_px = report.source.height_px
        message.source_format = report.source.format
        message.exif_orientation = report.source.exif_orientation
    if report.alpha_source is not None:
        message.alpha_source = pb.AlphaSource.Value(f"ALPHA_SOURCE_{report.alpha_source.upper()}")
    if report.validation is not None:
        message.validation = pb.Validation.Value(f"VALIDATION_{report.validation.name}")
    measured = report.options.enable_quality_metrics
    if measured and report.threshold is not None:
        message.threshold = report.threshold.used
        if report.threshold.otsu is not None:
            message.otsu_threshold = report.threshold.otsu
    if measured and report.foreground_box is not None:
        message.foreground_box.CopyFrom(_box_to_message(report.foreground_box))
    if report.confidence is not None:
        message.confidence = report.confidence
    if report.mask is not None:
        _write_mask_metrics(report.mask, message)
    return message


def _write_mask_metrics(mask: MaskMetrics, message: pb.Metrics) -> None:
    """Copies the measurements: the domain type's fields have the names of the message's."""
    for field in MaskMetrics.__dataclass_fields__:
        value = getattr(mask, field)
        if isinstance(value, Centering):
            message.centering.CopyFrom(pb.Centering(**vars(value)))
        elif value is not None:
            setattr(message, field, value)


def durations_to_message(seconds: Mapping[Any, float]) -> pb.StageDurations:
    """Writes the stages that were reached."""
    return pb.StageDurations(**{stage: seconds_to_duration(value) for stage, value in seconds.items()})


def models_to_messages(catalog: ModelCatalog, versions: Mapping[str, str], *, ready: bool) -> list[pb.ModelInfo]:
    """Writes the models that may be asked for; `versions` are those in use, `ready` says whether Triton answers."""
    messages = []
    for name, state in catalog.states().items():
        rules = catalog.rules(name)
        unavailable = state is ModelState.READY and not ready
        messages.append(
            pb.ModelInfo(
                name=name,
                version=versions.get(name, ""),
                state=pb.ModelState.Value(f"MODEL_STATE_{'UNAVAILABLE' if unavailable else state.name}"),
                licence=rules.licence,
                commercial_use=rules.commercial_use,
                side_px=rules.side,
                other_sides=rules.other_sides,
            )
        )
    return messages


def error_to_status(error: CutstreamError, metrics: pb.Metrics | None = None) -> status_pb2.Status:
    """Makes the Status of an error, with the details that the API promises.

    Args:
        error: what went wrong.
        metrics: packed into the details of unary errors.
    """
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata),
    ]
    if isinstance(error, InvalidOptionsError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, OverloadedError):
        details.append(error_details_pb2.RetryInfo(retry_delay=seconds_to_duration(error.retry_after_seconds)))
    if metrics is not None:
        details.append(metrics)
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    code: tuple[int, str] = STATUS_CODES[error.reason].value
    return status_pb2.Status(code=code[0], message=error.message, details=packed)


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: CutstreamError, metrics: pb.Metrics | None = None
) -> NoReturn:
    """Ends a call with the Status of an error; `metrics` as in `error_to_status`."""
    status = error_to_status(error, metrics)
    trailer = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(STATUS_CODES[error.reason], error.message, trailer)
