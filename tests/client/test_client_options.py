"""Options: the proto's fields, and every wrong value found before sending."""

from __future__ import annotations

import datetime
import math
import re
import typing

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

from cutstream import Box, CutoutError, Options
from cutstream.options import RANGES, enum_names, options_from_proto, options_to_proto
from cutstream.v1 import cutstream_pb2 as pb

FIELDS = pb.RemovalOptions.DESCRIPTOR.fields_by_name
HINTS = typing.get_type_hints(Options)
ENUMS = [name for name, field in FIELDS.items() if field.enum_type is not None]
NUMBERS = [
    name for name, field in FIELDS.items() if field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_INT32}
]

VALID: Options = {
    "preset": "trellis",
    "profile": "quality",
    "model": "isnet",
    "mask_threshold": 0.7,
    "mask_threshold_min": 0.0,
    "mask_threshold_max": 1,
    "use_adaptive_threshold": True,
    "mask_quantization_bits": 16,
    "enable_antialiasing": False,
    "interpolation_mode": "lanczos",
    "padding_percentage": 0.3,
    "use_smart_padding": False,
    "adaptive_padding_factor": 2.0,
    "enable_edge_refinement": True,
    "edge_refinement_radius": 7,
    "edge_refinement_eps": 0.01,
    "min_object_coverage": 0.1,
    "max_object_coverage": 0.9,
    "enable_quality_metrics": False,
    "enable_multi_scale": True,
    "multi_scale_factors": (0.5, 1.0),
    "object_validation": "reject",
    "alpha_floor": 0.0,
    "framing": "full",
    "output_width_px": 640,
    "output_height_px": 480,
    "size_mode": "longest_at_most",
    "output_format": "raw",
    "channels": "rgb",
    "sample_type": "float32",
    "alpha_mode": "premultiplied",
    "background_color": "#A0b1C2",
    "estimate_foreground": True,
    "png_compression_level": 9,
    "input_alpha": "ignore",
    "keep_components": "largest",
    "region_of_interest": Box(1.0, 2.0, 3.0, 4.0),
    "content": "metrics_only",
    "processing_timeout": 2.5,
}


def violations(**options: object) -> dict[str, str]:
    with pytest.raises(CutoutError) as caught:
        options_to_proto(options)
    assert caught.value.reason == "INVALID_OPTIONS"
    return {violation.field: violation.description for violation in caught.value.violations}


def test_options_are_exactly_the_fields_of_the_proto():
    assert list(HINTS) == list(FIELDS)


@pytest.mark.parametrize("name", ENUMS)
def test_the_literals_of_an_enum_are_its_values(name):
    enum = FIELDS[name].enum_type
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    values = [v.name for v in enum.values if v.name != prefix + "UNSPECIFIED"]
    assert [prefix + literal.upper() for literal in typing.get_args(HINTS[name])] == values


def test_every_field_survives_the_round_trip():
    assert set(VALID) == set(FIELDS)
    assert options_from_proto(options_to_proto(VALID)) == VALID


def test_no_options_make_an_empty_message():
    assert options_to_proto({}).ByteSize() == 0


def test_false_and_zero_are_sent_as_set():
    message = options_to_proto({"use_smart_padding": False, "alpha_floor": 0.0, "mask_quantization_bits": 0})
    assert options_from_proto(message) == {"use_smart_padding": False, "alpha_floor": 0.0, "mask_quantization_bits": 0}


def test_a_box_may_be_a_tuple():
    assert options_to_proto({"region_of_interest": (1, 2, 3, 4)}).region_of_interest == pb.Box(
        left_px=1, top_px=2, width_px=3, height_px=4
    )


def test_a_timeout_may_be_a_timedelta():
    message = options_to_proto({"processing_timeout": datetime.timedelta(milliseconds=1500)})
    assert (message.processing_timeout.seconds, message.processing_timeout.nanos) == (1, 500_000_000)


def test_numbers_of_numpy_are_numbers():
    message = options_to_proto({"output_width_px": np.int64(64), "mask_threshold": np.float32(0.5)})
    assert (message.output_width_px, message.mask_threshold) == (64, 0.5)


def test_all_wrong_options_are_named_at_once():
    wrong = violations(mask_threshold=2, output_format="jpeg", no_such_thing=1, use_smart_padding="yes")
    assert set(wrong) == {"mask_threshold", "output_format", "no_such_thing", "use_smart_padding"}


def test_a_misspelt_name_gets_a_suggestion():
    assert violations(mask_treshold=0.5)["mask_treshold"] == "no such option; did you mean 'mask_threshold'?"


def test_a_misspelt_value_gets_the_choices_and_a_suggestion():
    wrong = violations(output_format="wepb")["output_format"]
    assert wrong == "'wepb' is not one of png, webp, raw; did you mean 'webp'?"


def test_the_unspecified_value_of_an_enum_is_no_choice():
    assert "unspecified" not in enum_names(FIELDS["framing"].enum_type)
    assert "framing" in violations(framing="unspecified")


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "mask_quantization_bits"])
def test_every_number_has_a_range(name):
    assert name in RANGES


# Copied by hand from the comments of the proto: just inside, and just outside.
@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("mask_threshold", [0, 1], [-0.01, 1.01]),
        ("mask_threshold_min", [0, 1], [-0.01, 1.01]),
        ("mask_threshold_max", [0, 1], [-0.01, 1.01]),
        ("mask_quantization_bits", [0, 8, 16], [1, 7, 32]),
        ("padding_percentage", [0, 4], [-0.01, 4.01]),
        ("adaptive_padding_factor", [1, 10], [0.99, 10.01]),
        ("edge_refinement_radius", [1, 64], [0, 65]),
        ("edge_refinement_eps", [1e-9, 1], [0, 1.01]),
        ("min_object_coverage", [0, 1], [-0.01, 1.01]),
        ("max_object_coverage", [0, 1], [-0.01, 1.01]),
        ("multi_scale_factors", [[0.25], [2.0] * 5], [[], [1.0] * 6, [0.24], [2.01]]),
        ("alpha_floor", [0, 0.25], [-0.01, 0.26]),
        ("output_width_px", [1, 4096], [0, 4097]),
        ("output_height_px", [1, 4096], [0, 4097]),
        ("png_compression_level", [0, 9], [-1, 10]),
        ("processing_timeout", [0.001], [0, -1]),
        ("region_of_interest", [(0, 0, 0, 0)], [(0, 0, -1, 5), (0, 0, 1), "0,0,1,1"]),
        ("background_color", ["#00ffAA"], ["red", "#fff", "#00ffAAx"]),
    ],
)
def test_ranges_are_those_of_the_proto(name, inside, outside):
    for value in inside:
        options_to_proto({name: value})
    for value in outside:
        assert name in violations(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["mask_threshold", "padding_percentage", "processing_timeout"])
def test_numbers_must_be_finite(name, value):
    assert "finite" in violations(**{name: value})[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_width_px", 1.5),
        ("output_width_px", True),
        ("mask_threshold", "0.5"),
        ("mask_threshold", True),
        ("enable_antialiasing", 1),
        ("preset", 3),
        ("framing", 1),
        ("multi_scale_factors", "1.0"),
        ("multi_scale_factors", ["1.0"]),
        ("region_of_interest", (0, 0, math.nan, 1)),
    ],
)
def test_values_of_the_wrong_type_are_found(name, value):
    assert name in violations(**{name: value})
