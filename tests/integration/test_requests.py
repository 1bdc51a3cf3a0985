"""Options on their way through client, gRPC and server."""

import json
import subprocess

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from running import BIN, running_server

from cutstream.v1 import cutstream_pb2 as pb

REGION = pb.Box(left_px=10, top_px=10, width_px=200, height_px=180)

# Every field of RemovalOptions with a value that is not its default; `model` is needed by all.
OTHER_VALUES = {
    "preset": "triposr",
    "profile": pb.PROFILE_FAST,
    "model": "tiny",
    "mask_threshold": 0.7,
    "mask_threshold_min": 0.4,
    "mask_threshold_max": 0.9,
    "use_adaptive_threshold": True,
    "mask_quantization_bits": 8,
    "enable_antialiasing": False,
    "interpolation_mode": pb.INTERPOLATION_MODE_LANCZOS,
    "padding_percentage": 0.35,
    "use_smart_padding": False,
    "adaptive_padding_factor": 2.0,
    "enable_edge_refinement": True,
    "edge_refinement_radius": 7,
    "edge_refinement_eps": 0.01,
    "min_object_coverage": 0.01,
    "max_object_coverage": 0.9,
    "enable_quality_metrics": False,
    "enable_multi_scale": True,
    "multi_scale_factors": [0.5, 1.0],
    "object_validation": pb.OBJECT_VALIDATION_OFF,
    "alpha_floor": 0.02,
    "framing": pb.FRAMING_FULL,
    "output_width_px": 200,
    "output_height_px": 200,
    "size_mode": pb.SIZE_MODE_LONGEST_AT_MOST,
    "output_format": pb.OUTPUT_FORMAT_WEBP,
    "channels": pb.CHANNELS_ALPHA,
    "sample_type": pb.SAMPLE_TYPE_UINT16,
    "alpha_mode": pb.ALPHA_MODE_PREMULTIPLIED,
    "background_color": "#102030",
    "estimate_foreground": False,
    "png_compression_level": 6,
    "input_alpha": pb.INPUT_ALPHA_IGNORE,
    "keep_components": pb.KEEP_COMPONENTS_LARGEST,
    "region_of_interest": REGION,
    "content": pb.CONTENT_METRICS_ONLY,
    "processing_timeout": {"seconds": 30},
}
NEEDS = {"background_color": {"channels": pb.CHANNELS_RGB}}


@pytest.fixture(scope="module")
def blob(draw):
    y, x = np.mgrid[:240, :320] + 0.5
    return draw(np.clip(1.2 - np.hypot((x - 150) / 70, (y - 110) / 60), 0, 1))


@pytest.fixture
def ask(server, blob):
    def call(**options):
        with server.stub() as stub:
            options.setdefault("model", "tiny")
            request = pb.RemoveBackgroundRequest(image=blob, options=pb.RemovalOptions(**options))
            return stub.RemoveBackground(request, timeout=60)

    return call


def violations_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(found)
    return [violation.field for violation in found.field_violations]


def test_the_list_below_has_every_option():
    assert set(OTHER_VALUES) == {field.name for field in pb.RemovalOptions.DESCRIPTOR.fields}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_an_option_is_used_and_echoed(ask, name):
    sent = pb.RemovalOptions(**{name: OTHER_VALUES[name]}, **NEEDS.get(name, {}))
    used = ask(**{name: OTHER_VALUES[name]}, **NEEDS.get(name, {})).metrics.effective_options
    assert getattr(used, name) == getattr(sent, name)


WRONG = [
    ({"preset": "nerf"}, ["preset"]),
    ({"mask_threshold": float("nan"), "padding_percentage": -1}, ["mask_threshold", "padding_percentage"]),
    ({"framing": 77, "channels": 78}, ["framing", "channels"]),
    ({"mask_threshold_min": 0.9, "mask_threshold_max": 0.6}, ["mask_threshold_min"]),
    ({"sample_type": pb.SAMPLE_TYPE_FLOAT32, "alpha_floor": float("inf")}, ["sample_type", "alpha_floor"]),
    ({"multi_scale_factors": [1.0] * 6}, ["multi_scale_factors"]),
    ({"output_width_px": 0, "output_height_px": 5, "alpha_floor": 1}, ["output_width_px", "alpha_floor"]),
    ({"processing_timeout": {"seconds": -1}}, ["processing_timeout"]),
    ({"region_of_interest": pb.Box(width_px=-1, height_px=1)}, ["region_of_interest.width_px"]),
]


@pytest.mark.parametrize(("options", "fields"), WRONG)
def test_wrong_options_are_one_error_with_a_violation_for_each_field(ask, options, fields):
    with pytest.raises(grpc.RpcError) as caught:
        ask(**options)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == sorted(f"options.{field}" for field in fields)


def test_the_most_violations_possible_still_reach_the_caller(ask):
    options = {
        field.name: -1.0 if field.cpp_type == field.CPPTYPE_DOUBLE else -1
        for field in pb.RemovalOptions.DESCRIPTOR.fields
        if field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_INT32} and not field.is_repeated
    }
    with pytest.raises(grpc.RpcError) as caught:
        ask(**options)
    assert sorted(violations_of(caught.value)) == sorted(f"options.{field}" for field in options)


def test_grpc_and_the_command_line_give_the_same_bytes(ask, server, blob, tmp_path):
    words = {
        "model": "tiny",
        "profile": "quality",
        "mask_threshold": "0.7",
        "mask_quantization_bits": "8",
        "interpolation_mode": "bicubic",
        "padding_percentage": "0.35",
        "use_smart_padding": "false",
        "enable_edge_refinement": "true",
        "edge_refinement_radius": "7",
        "enable_multi_scale": "true",
        "multi_scale_factors": "0.5,1.0",
        "output_width_px": "200",
        "output_height_px": "120",
        "channels": "rgb",
        "background_color": "#102030",
        "keep_components": "largest",
        "png_compression_level": "4",
    }
    (tmp_path / "in.png").write_bytes(blob)
    sets = [part for name, text in words.items() for part in ("--set", f"{name}={text}")]
    command = [BIN / "cutstream", "remove", tmp_path / "in.png", "-o", tmp_path / "out.png", "--target", server.target]
    subprocess.run([*command, *sets], check=True, timeout=60)
    options = {
        **{name: json.loads(text) for name, text in words.items() if text[0].isdigit() and "," not in text},
        "model": "tiny",
        "profile": pb.PROFILE_QUALITY,
        "interpolation_mode": pb.INTERPOLATION_MODE_BICUBIC,
        "use_smart_padding": False,
        "enable_edge_refinement": True,
        "enable_multi_scale": True,
        "multi_scale_factors": [0.5, 1.0],
        "channels": pb.CHANNELS_RGB,
        "background_color": "#102030",
        "keep_components": pb.KEEP_COMPONENTS_LARGEST,
    }
    assert (tmp_path / "out.png").read_bytes() == ask(**options).cutout.image


def test_an_image_over_the_limit_is_a_typed_error_up_to_a_mebibyte_above_it(tmp_path):
    with running_server(tmp_path, CUTSTREAM_MAX_IMAGE_BYTES="100000") as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=bytes(1_100_000)))
        status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "IMAGE_TOO_LARGE"
        assert dict(info.metadata) == {"limit": "100000", "measured": "1100000", "unit": "bytes"}
        with pytest.raises(grpc.RpcError) as caught:
            stub.RemoveBackground(pb.RemoveBackgroundRequest(image=bytes(1_200_000)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_environment_stands_below_the_stream_and_the_image(tmp_path, blob):
    environment = {"PADDING_PERCENTAGE": "0.11", "MASK_THRESHOLD": "0.61", "ALPHA_FLOOR": "0.03", "OUTPUT_SIZE": "96"}
    with running_server(tmp_path, **environment) as server, server.client() as client:
        (cutout,) = client.stream([("a", blob)], padding_percentage=0.12, mask_threshold=0.62)
        used = cutout.metrics.effective_options
        assert (used["padding_percentage"], used["mask_threshold"], used["alpha_floor"]) == (0.12, 0.62, 0.03)
        assert (cutout.width_px, cutout.height_px) == (96, 96)
        assert client.info().default_options["padding_percentage"] == 0.11
        assert client.remove(blob, preset="crm").metrics.effective_options["padding_percentage"] == 0.0
