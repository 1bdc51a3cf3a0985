"""Types, ranges and precedence of the options."""

import math
from types import SimpleNamespace

import pytest

from cutstream_server.errors import InvalidOptionsError
from cutstream_server.options import OptionResolver, Options, parse_options

SQUARE = {"padding_percentage": 0.3, "output_width_px": 256, "output_height_px": 256}
PRESETS = {
    "square": SimpleNamespace(options=SQUARE, background="#7F7F7F"),
    "wide": SimpleNamespace(options={"padding_percentage": 0.4}, background=None),
}


def resolver(environment=None, image_timeout=60.0):
    return OptionResolver(PRESETS, environment or {}, image_timeout)


def resolve(image=None, stream=None, environment=None):
    made = resolver(environment)
    return made.resolve(image or {}, made.stream_level(stream or {}, path="config.options."))


# From the lowest level to the highest: each adds one source of padding_percentage that must beat all before it.
LEVELS = [
    ({}, {}, {}, 0.2),
    ({"padding_percentage": 0.11}, {}, {}, 0.11),
    ({"padding_percentage": 0.11}, {"preset": "square"}, {}, 0.3),
    ({"padding_percentage": 0.11}, {"preset": "square", "padding_percentage": 0.12}, {}, 0.12),
    ({"padding_percentage": 0.11}, {"preset": "square", "padding_percentage": 0.12}, {"preset": "wide"}, 0.4),
    (
        {"padding_percentage": 0.11},
        {"preset": "square", "padding_percentage": 0.12},
        {"preset": "wide", "padding_percentage": 0.13},
        0.13,
    ),
]


@pytest.mark.parametrize(("environment", "stream", "image", "padding"), LEVELS)
def test_a_higher_level_wins(environment, stream, image, padding):
    assert resolve(image, stream, environment).padding_percentage == padding


# The same for an option that profiles set.
PROFILE_LEVELS = [
    ({}, {}, {}, True),
    ({"profile": "fast"}, {}, {}, False),
    ({"profile": "fast"}, {"profile": "balanced"}, {}, True),
    ({"profile": "fast"}, {"profile": "balanced", "estimate_foreground": False}, {}, False),
    ({"profile": "fast"}, {"estimate_foreground": False}, {"profile": "quality"}, True),
    ({}, {}, {"profile": "quality", "estimate_foreground": False}, False),
]


@pytest.mark.parametrize(("environment", "stream", "image", "expected"), PROFILE_LEVELS)
def test_a_profile_stands_below_the_explicit_options_of_its_level(environment, stream, image, expected):
    assert resolve(image, stream, environment).estimate_foreground is expected


def test_one_output_side_alone_means_a_square_whatever_lower_levels_say():
    options = resolve({"output_height_px": 100}, {"output_width_px": 300, "output_height_px": 200})
    assert (options.output_width_px, options.output_height_px) == (100, 100)


def test_an_object_crop_is_518_pixels_square_by_default():
    options = resolve()
    assert (options.output_width_px, options.output_height_px) == (518, 518)


def test_the_full_frame_has_no_size_of_its_own():
    assert resolve({"framing": "full"}).output_width_px is None


def test_the_background_of_rgb_is_black_by_default():
    assert resolve({"channels": "rgb"}).background_color == "#000000"


def test_a_preset_brings_its_background_for_rgb_only():
    assert resolve({"channels": "rgb", "preset": "square"}).background_color == "#7F7F7F"
    assert resolve({"preset": "square"}).background_color is None


def test_an_explicit_background_beats_that_of_the_preset():
    options = resolve({"channels": "rgb", "preset": "square", "background_color": "#010203"})
    assert options.background_color == "#010203"


def test_the_time_of_an_image_is_the_servers_limit_by_default():
    assert resolve().processing_timeout == 60.0


def test_more_time_than_the_server_allows_is_invalid():
    with pytest.raises(InvalidOptionsError) as caught:
        resolve({"processing_timeout": 61.0})
    assert [violation.field for violation in caught.value.violations] == ["options.processing_timeout"]


def test_an_unknown_preset_is_invalid_and_the_known_ones_are_named():
    with pytest.raises(InvalidOptionsError, match="square, wide"):
        resolve({"preset": "nerf"})


def test_an_unknown_preset_is_listed_with_all_that_is_wrong():
    with pytest.raises(InvalidOptionsError) as caught:
        resolve({"preset": "nerf", "framing": 77, "padding_percentage": -1.0})
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"options.preset", "options.framing", "options.padding_percentage"}


def test_of_a_square_only_the_side_that_was_given_is_wrong():
    with pytest.raises(InvalidOptionsError) as caught:
        resolve({"output_width_px": 0})
    assert [violation.field for violation in caught.value.violations] == ["options.output_width_px"]


def test_wrong_stream_options_are_named_by_their_place_in_the_config():
    with pytest.raises(InvalidOptionsError) as caught:
        resolver().stream_level({"padding_percentage": -1.0}, path="config.options.")
    assert [violation.field for violation in caught.value.violations] == ["config.options.padding_percentage"]


def test_every_wrong_field_is_listed_at_once_contradictions_too():
    with pytest.raises(InvalidOptionsError) as caught:
        parse_options(
            {"mask_threshold": math.nan, "padding_percentage": -1.0, "framing": "round", "mask_threshold_min": 0.99}
        )
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"mask_threshold", "padding_percentage", "framing", "mask_threshold_min"}


CONTRADICTIONS = [
    ({"mask_threshold_min": 0.9, "mask_threshold_max": 0.6}, "mask_threshold_min"),
    ({"min_object_coverage": 0.5, "max_object_coverage": 0.4}, "min_object_coverage"),
    ({"sample_type": "uint16", "output_format": "webp"}, "sample_type"),
    ({"sample_type": "float32", "output_format": "png"}, "sample_type"),
    ({"alpha_mode": "premultiplied", "channels": "rgb"}, "alpha_mode"),
    ({"background_color": "#ffffff"}, "background_color"),
]


@pytest.mark.parametrize(("values", "field"), CONTRADICTIONS)
def test_options_that_contradict_each_other_are_invalid(values, field):
    with pytest.raises(InvalidOptionsError) as caught:
        parse_options(values)
    assert [violation.field for violation in caught.value.violations] == [field]


OUT_OF_RANGE = [
    ("mask_threshold", 1.01),
    ("mask_threshold", -0.01),
    ("mask_quantization_bits", 4),
    ("padding_percentage", math.inf),
    ("adaptive_padding_factor", 0.5),
    ("edge_refinement_radius", 0),
    ("edge_refinement_eps", 0.0),
    ("multi_scale_factors", ()),
    ("multi_scale_factors", (1.0,) * 6),
    ("output_width_px", 0),
    ("output_width_px", 4097),
    ("png_compression_level", 10),
    ("background_color", "white"),
    ("alpha_floor", 0.3),
    ("processing_timeout", 0.0),
    ("region_of_interest", {"left_px": 0.0, "top_px": 0.0, "width_px": 0.0, "height_px": 5.0}),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_a_violation_of_its_field(name, value):
    with pytest.raises(InvalidOptionsError) as caught:
        parse_options({name: value})
    assert all(violation.field.split(".")[0] == name for violation in caught.value.violations)


def test_a_threshold_outside_its_bounds_is_valid_because_it_is_clamped():
    assert parse_options({"mask_threshold": 0.1}).mask_threshold == 0.1


def test_the_defaults_are_valid():
    assert parse_options({}) == Options()
