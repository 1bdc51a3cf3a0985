"""Every field of the answers arrives in the dataclasses."""

from __future__ import annotations

import dataclasses

import pytest

from cutstream import (
    Box,
    Centering,
    CropBox,
    Cutout,
    Metrics,
    ModelInfo,
    PresetInfo,
    ServerInfo,
    ServerLimits,
    StageDurations,
    TritonInfo,
)
from cutstream.convert import cutout_from_proto, metrics_from_proto, server_info_from_proto
from cutstream.v1 import cutstream_pb2 as pb


def names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def proto_names(message: type) -> list[str]:
    return list(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Metrics, pb.Metrics),
        (Centering, pb.Centering),
        (Box, pb.Box),
        (CropBox, pb.CropBox),
        (ModelInfo, pb.ModelInfo),
        (PresetInfo, pb.PresetInfo),
        (TritonInfo, pb.TritonInfo),
        (ServerInfo, pb.GetServerInfoResponse),
    ],
)
def test_a_dataclass_has_the_fields_of_its_message(kind, message):
    assert names(kind) == proto_names(message)


@pytest.mark.parametrize(("kind", "message"), [(StageDurations, pb.StageDurations), (ServerLimits, pb.ServerLimits)])
def test_durations_are_named_in_seconds(kind, message):
    fields = message.DESCRIPTOR.fields_by_name.values()
    expected = [f"{field.name}_seconds" if field.message_type is not None else field.name for field in fields]
    assert names(kind) == expected


def filled(message):
    """The message with another value in each field."""
    for number, field in enumerate(message.DESCRIPTOR.fields, start=1):
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Duration":
            getattr(message, field.name).FromMilliseconds(number * 1500)
        elif field.message_type is not None and not isinstance(message, pb.RemovalOptions):
            filled(getattr(message, field.name))
        elif field.message_type is None and field.name != "multi_scale_factors":
            value = {field.TYPE_STRING: f"text {number}", field.TYPE_BOOL: True, field.TYPE_ENUM: 1}.get(
                field.type, number
            )
            setattr(message, field.name, value)
    return message


def test_every_metric_arrives():
    message = filled(pb.Metrics())
    metrics = metrics_from_proto(message)
    for name in names(Metrics):
        value = getattr(metrics, name)
        if name in {"foreground_box", "centering"}:
            expected = {field: getattr(getattr(message, name), field) for field in names(type(value))}
            assert dataclasses.asdict(value) == expected
        elif name not in {"durations", "effective_options", "validation", "alpha_source"}:
            assert value == getattr(message, name)
    assert (metrics.validation, metrics.alpha_source) == ("ok", "model")
    assert metrics.effective_options["output_format"] == "png"
    assert metrics.durations == StageDurations(1.5, 3.0, 4.5, 6.0, 7.5, 9.0, 10.5)


def test_metrics_that_the_server_left_out_are_none():
    metrics = metrics_from_proto(pb.Metrics(validation=pb.VALIDATION_NO_OBJECT))
    assert metrics == Metrics(validation="no_object")
    assert (metrics.alpha_coverage, metrics.centering, metrics.durations) == (None, None, None)


def test_a_metric_of_zero_is_zero_and_not_none():
    assert metrics_from_proto(pb.Metrics(alpha_coverage=0.0)).alpha_coverage == 0.0


def test_an_enum_value_newer_than_the_library_comes_as_its_number():
    assert metrics_from_proto(pb.Metrics(validation=99)).validation == "99"


def test_a_cutout_arrives_whole():
    message = pb.Cutout(media_type="image/webp", width_px=3, height_px=4, crop=filled(pb.CropBox()))
    cutout = cutout_from_proto("id", message, b"data", pb.Metrics())
    assert cutout == Cutout(b"data", "image/webp", 3, 4, CropBox(1, 2, 3, 4), Metrics(), "id")


def test_server_info_arrives_whole():
    message = pb.GetServerInfoResponse(
        version="1.2",
        models=[
            pb.ModelInfo(name="isnet", version="3", state=pb.MODEL_STATE_READY),
            pb.ModelInfo(
                name="small",
                state=pb.MODEL_STATE_LOADING,
                licence="MIT",
                commercial_use=False,
                side_px=320,
                other_sides=True,
            ),
        ],
        default_options=pb.RemovalOptions(mask_threshold=0.8),
        presets=[pb.PresetInfo(name="p", description="d", options=pb.RemovalOptions(output_width_px=518))],
        limits=filled(pb.ServerLimits()),
        triton=pb.TritonInfo(embedded=True, ready=True, transport="grpc"),
        input_formats=["JPEG", "PNG"],
    )
    assert server_info_from_proto(message) == ServerInfo(
        version="1.2",
        models=(
            ModelInfo("isnet", "3", "ready"),
            ModelInfo("small", "", "loading", "MIT", False, 320, True),
        ),
        default_options={"mask_threshold": 0.8},
        presets=(PresetInfo("p", "d", {"output_width_px": 518}),),
        limits=ServerLimits(1, 2, 3, 4, 5, 6, 10.5, 12.0),
        triton=TritonInfo(True, True, "grpc"),
        input_formats=("JPEG", "PNG"),
    )
