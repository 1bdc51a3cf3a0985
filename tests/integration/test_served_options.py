"""Options through the real service: which level wins, what is refused and how, and that each has an effect."""

import functools
import math
import subprocess

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from running import BIN, running_server
from scenes import Scene, ellipse, rectangle, red_picture, rgba_picture

import cutstream
from cutstream.v1 import cutstream_pb2 as pb

FIELDS = list(pb.RemovalOptions.DESCRIPTOR.fields_by_name)
PICTURE = Scene(200, 160, lambda x, y: ellipse(x, y, (90, 80), (50, 40))).picture()

# Every option with an environment variable, away from its default; the text of the variable and the value meant.
ENVIRONMENT = {
    "MASK_THRESHOLD": ("0.7", 0.7),
    "MASK_THRESHOLD_MIN": ("0.4", 0.4),
    "MASK_THRESHOLD_MAX": ("0.9", 0.9),
    "USE_ADAPTIVE_THRESHOLD": ("true", True),
    "MASK_QUANTIZATION_BITS": ("16", 16),
    "ENABLE_ANTIALIASING": ("false", False),
    "INTERPOLATION_MODE": ("bicubic", "bicubic"),
    "PADDING_PERCENTAGE": ("0.7", 0.7),
    "USE_SMART_PADDING": ("false", False),
    "ADAPTIVE_PADDING_FACTOR": ("2.5", 2.5),
    "ENABLE_EDGE_REFINEMENT": ("true", True),
    "EDGE_REFINEMENT_RADIUS": ("9", 9),
    "EDGE_REFINEMENT_EPS": ("0.0123", 0.0123),
    "MIN_OBJECT_COVERAGE": ("0.1", 0.1),
    "MAX_OBJECT_COVERAGE": ("0.9", 0.9),
    "ENABLE_QUALITY_METRICS": ("false", False),
    "ENABLE_MULTI_SCALE": ("true", True),
    "MULTI_SCALE_FACTORS": ("0.5, 1.5", (0.5, 1.5)),
    "OBJECT_VALIDATION": ("off", "off"),
    "ALPHA_FLOOR": ("0.02", 0.02),
}


@pytest.fixture(scope="module")
def environment_server(tmp_path_factory):
    """A server whose every default is moved by its environment."""
    variables = {name: text for name, (text, _) in ENVIRONMENT.items()}
    folder = tmp_path_factory.mktemp("environment")
    with running_server(folder, OUTPUT_SIZE="96", CUTSTREAM_PROFILE="fast", **variables) as running:
        yield running


@pytest.fixture
def options_of(client, environment_server):
    """The effective options of one image on a stream of the plain server, or of the one with an environment."""

    def effective(*, environment, stream, image):
        with environment_server.client() as moved:
            chosen = moved if environment else client
            item = cutstream.StreamImage(PICTURE, "one", {"model": "tiny", **image})
            (result,) = chosen.stream([item], **stream)
        assert isinstance(result, cutstream.Cutout), result
        return result.metrics.effective_options

    return effective


PADDING_LEVELS = [  # environment, stream, image, the padding used; 0.3 is SPAR3D's and 0.25 is LGM's
    (False, {}, {}, 0.2),
    (True, {}, {}, 0.7),
    (True, {"preset": "spar3d"}, {}, 0.3),
    (True, {"preset": "spar3d", "padding_percentage": 0.35}, {}, 0.35),
    (True, {"padding_percentage": 0.35}, {"preset": "lgm"}, 0.25),
    (True, {"preset": "spar3d", "padding_percentage": 0.35}, {"preset": "lgm", "padding_percentage": 0.9}, 0.9),
    (True, {"preset": "spar3d"}, {"padding_percentage": 0.9}, 0.9),
]


@pytest.mark.parametrize(("environment", "stream", "image", "padding"), PADDING_LEVELS)
def test_the_highest_level_that_sets_an_option_wins(options_of, environment, stream, image, padding):
    assert options_of(environment=environment, stream=stream, image=image)["padding_percentage"] == padding


FOREGROUND_LEVELS = [  # the profile alone decides about it, unless it is set: fast is without
    (False, {}, {}, True),
    (True, {}, {}, False),
    (True, {"profile": "balanced"}, {}, True),
    (True, {"profile": "balanced", "estimate_foreground": False}, {}, False),
    (True, {"estimate_foreground": False}, {"profile": "balanced"}, True),
    (False, {"profile": "balanced"}, {"profile": "fast", "estimate_foreground": True}, True),
    (False, {"estimate_foreground": True}, {"profile": "fast"}, False),
]


@pytest.mark.parametrize(("environment", "stream", "image", "estimated"), FOREGROUND_LEVELS)
def test_a_profile_stands_at_its_level(options_of, environment, stream, image, estimated):
    assert options_of(environment=environment, stream=stream, image=image)["estimate_foreground"] is estimated


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_every_environment_variable_moves_its_default(environment_server, variable):
    with environment_server.client() as client:
        assert client.info().default_options[variable.lower()] == ENVIRONMENT[variable][1]


def test_the_output_size_of_the_environment_is_a_square(environment_server):
    with environment_server.client() as client:
        cutout = client.remove(PICTURE, model="tiny")
    assert (cutout.width_px, cutout.height_px) == (96, 96)


def test_the_default_options_are_those_that_an_image_without_options_gets(client):
    assert client.remove(PICTURE, model="tiny").metrics.effective_options == {
        **client.info().default_options,
        "model": "tiny",
    }


# --- What is refused -------------------------------------------------------------------------------------------------

NAN, INFINITE = math.nan, math.inf
REFUSED = {  # what is sent, and the fields that must be named, all of them
    "unknown preset": ({"preset": "nonesuch"}, {"preset"}),
    "not a number": ({"mask_threshold": NAN, "padding_percentage": NAN}, {"mask_threshold", "padding_percentage"}),
    "infinite": ({"padding_percentage": INFINITE, "alpha_floor": -INFINITE}, {"padding_percentage", "alpha_floor"}),
    "negative": (
        {"padding_percentage": -0.1, "output_width_px": -5, "edge_refinement_eps": -1e-3},
        {"padding_percentage", "output_width_px", "edge_refinement_eps"},
    ),
    "out of range": (
        {"output_height_px": 4097, "mask_quantization_bits": 12, "png_compression_level": 10, "alpha_floor": 0.3},
        {"output_height_px", "mask_quantization_bits", "png_compression_level", "alpha_floor"},
    ),
    "too many factors": ({"multi_scale_factors": [1.0] * 6}, {"multi_scale_factors"}),
    "a factor out of range": ({"multi_scale_factors": [1.0, 2.5]}, {"multi_scale_factors.1"}),
    "a region that is not a number": (
        {"region_of_interest": pb.Box(left_px=NAN, top_px=0, width_px=9, height_px=9)},
        {"region_of_interest.left_px"},
    ),
    "not a colour": ({"background_color": "white", "channels": pb.CHANNELS_RGB}, {"background_color"}),
    "crossed limits": (
        {"mask_threshold_min": 0.9, "mask_threshold_max": 0.6, "min_object_coverage": 0.99},
        {"mask_threshold_min", "min_object_coverage"},
    ),
    "contradictory outputs": (
        {
            "output_format": pb.OUTPUT_FORMAT_WEBP,
            "channels": pb.CHANNELS_ALPHA,
            "sample_type": pb.SAMPLE_TYPE_UINT16,
            "alpha_mode": pb.ALPHA_MODE_PREMULTIPLIED,
            "background_color": "#FFFFFF",
        },
        {"channels", "sample_type", "alpha_mode", "background_color"},
    ),
    "floats in a PNG": ({"sample_type": pb.SAMPLE_TYPE_FLOAT32}, {"sample_type"}),
    "an unknown enum value": ({"framing": 77}, {"framing"}),
    "no time": ({"processing_timeout": Duration(seconds=0)}, {"processing_timeout"}),
    "more time than there is": ({"processing_timeout": Duration(seconds=3601)}, {"processing_timeout"}),
    "of every kind": (
        {
            "preset": "nonesuch",
            "framing": 77,
            "mask_threshold": NAN,
            "padding_percentage": -1.0,
            "output_width_px": 5000,
            "mask_threshold_min": 0.9,
            "mask_threshold_max": 0.6,
            "processing_timeout": Duration(seconds=3601),
        },
        {
            "preset",
            "framing",
            "mask_threshold",
            "padding_percentage",
            "output_width_px",
            "mask_threshold_min",
            "processing_timeout",
        },
    ),
}


@pytest.fixture(params=REFUSED)
def refused(request):
    options, fields = REFUSED[request.param]
    return pb.RemovalOptions(**options), fields


def check_refusal(status, prefix, fields):
    """One INVALID_OPTIONS, and one violation for each wrong field, by its path."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("cutstream", "INVALID_OPTIONS")
    assert status.details[1].Unpack(bad)
    named = [violation.field for violation in bad.field_violations]
    assert sorted(named) == sorted(prefix + field for field in fields)
    assert all(violation.description for violation in bad.field_violations)


def status_of(error):
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    (data,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    return status_pb2.Status.FromString(data)


def test_a_call_refuses_wrong_options(server, refused):
    options, fields = refused
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.RemoveBackground(pb.RemoveBackgroundRequest(image=PICTURE, options=options))
    check_refusal(status_of(caught.value), "options.", fields)


def test_an_image_of_a_stream_with_wrong_options_is_refused_and_the_next_is_not(server, refused):
    options, fields = refused
    with server.stub() as stub:
        *results, summary = stub.StreamRemoveBackground(stream(pb.RemovalOptions(model="tiny"), options))
    by_id = {result.image.image_id: result.image for result in results}
    check_refusal(by_id["wrong"].error, "options.", fields)
    assert by_id["right"].HasField("cutout")
    assert summary.summary.failed_count == 1


def test_a_stream_with_wrong_options_is_refused_as_a_whole(server, refused):
    options, fields = refused
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        list(stub.StreamRemoveBackground(stream(options, None)))
    check_refusal(status_of(caught.value), "config.options.", fields)


def stream(config, wrong):
    """The config, an image with these options, and one without."""
    yield pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=config))
    for image_id, options in (("wrong", wrong), ("right", None)):
        chunk = pb.ImageChunk(image_id=image_id, data=PICTURE, last=True, options=options)
        yield pb.StreamRemoveBackgroundRequest(chunk=chunk)


# --- Every field has an effect ---------------------------------------------------------------------------------------


@functools.cache
def tricky_picture():
    """Something that every option changes: soft and faint parts, two objects, fine detail, an uneven long shape."""
    mask = Scene(
        640,
        480,
        lambda x, y: np.maximum.reduce(
            [
                1.0 * rectangle(x, y, 120, 60, 136, 420),
                0.85 * rectangle(x, y, 136, 60, 350, 68),
                np.clip((60 - np.hypot(x - 200, y - 200)) / 40, 0, 1),
                1.0 * ellipse(x, y, (300, 400), (20, 20)),
                0.6 * rectangle(x, y, 150, 300, 200, 350),
                0.007 * ellipse(x, y, (250, 120), (20, 20)),
                0.9 * rectangle(x, y, 140, 100, 200, 130) * (np.floor(x / 2) % 2),
            ]
        ),
    ).alpha()
    return red_picture(mask)


@functools.cache
def translucent_picture():
    """Brings its own alpha, whose box is not that of the red channel."""
    y, x = np.mgrid[:200, :200]
    alpha = np.where((x > 60) & (x < 120) & (y > 40) & (y < 160), 255, 0).astype(np.uint8)
    rgb = np.dstack([255 - alpha, alpha // 2, np.full_like(alpha, 70)])
    return rgba_picture(rgb, alpha)


BOX = pb.Box(left_px=100, top_px=40, width_px=180, height_px=300)
CHANGES = {  # a value that is not the default, and what else must be set for it to be seen
    "preset": ("lgm", {}),
    "profile": (pb.PROFILE_FAST, {}),
    "model": ("tiny", {}),
    "mask_threshold": (0.65, {}),
    "mask_threshold_min": (0.9, {}),
    "mask_threshold_max": (0.55, {}),
    "use_adaptive_threshold": (True, {}),
    "mask_quantization_bits": (8, {"sample_type": pb.SAMPLE_TYPE_UINT16, "enable_multi_scale": True}),
    "enable_antialiasing": (False, {"output_width_px": 100}),
    "interpolation_mode": (pb.INTERPOLATION_MODE_LANCZOS, {}),
    "padding_percentage": (0.5, {}),
    "use_smart_padding": (False, {}),
    "adaptive_padding_factor": (3.0, {}),
    "enable_edge_refinement": (True, {}),
    "edge_refinement_radius": (20, {"enable_edge_refinement": True}),
    "edge_refinement_eps": (0.5, {"enable_edge_refinement": True}),
    "min_object_coverage": (0.01, {}),
    "max_object_coverage": (0.01, {"min_object_coverage": 0.0}),
    "enable_quality_metrics": (False, {}),
    "enable_multi_scale": (True, {}),
    "multi_scale_factors": ([0.25, 0.5], {"enable_multi_scale": True}),
    "object_validation": (pb.OBJECT_VALIDATION_OFF, {"min_object_coverage": 0.5}),
    "alpha_floor": (0.0, {}),
    "framing": (pb.FRAMING_FULL, {}),
    "output_width_px": (300, {}),
    "output_height_px": (300, {}),
    "size_mode": (pb.SIZE_MODE_NATIVE, {}),
    "output_format": (pb.OUTPUT_FORMAT_WEBP, {}),
    "channels": (pb.CHANNELS_RGB, {}),
    "sample_type": (pb.SAMPLE_TYPE_UINT16, {}),
    "alpha_mode": (pb.ALPHA_MODE_PREMULTIPLIED, {}),
    "background_color": ("#12aB9f", {"channels": pb.CHANNELS_RGB}),
    "estimate_foreground": (False, {}),
    "png_compression_level": (9, {}),
    "input_alpha": (pb.INPUT_ALPHA_IGNORE, {}),
    "keep_components": (pb.KEEP_COMPONENTS_LARGEST, {}),
    "region_of_interest": (BOX, {}),
    "content": (pb.CONTENT_METRICS_ONLY, {}),
    "processing_timeout": (Duration(seconds=7), {}),
}


def answer(server, options, image=None):
    """What the server answers, and the options that it says it used; without its clock."""
    with server.stub() as stub:
        request = pb.RemoveBackgroundRequest(image=image or tricky_picture(), options=options)
        response = stub.RemoveBackground(request)
    effective = pb.RemovalOptions()
    effective.CopyFrom(response.metrics.effective_options)
    response.metrics.ClearField("effective_options")
    response.metrics.ClearField("durations")
    return response, effective


@pytest.mark.parametrize("field", FIELDS)
def test_every_option_is_echoed_as_it_was_set(server, field):
    value, others = CHANGES[field]
    options = pb.RemovalOptions(**{"model": "tiny", **others, field: value})
    _, effective = answer(server, options)
    assert getattr(effective, field) == getattr(options, field)


# Their effects are shown elsewhere: another network by its mask, a time limit by a time-out.
SEEN_OTHERWISE = {"model", "processing_timeout"}


@pytest.mark.parametrize("field", [field for field in FIELDS if field not in SEEN_OTHERWISE])
def test_every_option_changes_the_answer(server, field):
    value, others = CHANGES[field]
    image = translucent_picture() if field == "input_alpha" else None
    without, _ = answer(server, pb.RemovalOptions(model="tiny", **others), image)
    with_it, _ = answer(server, pb.RemovalOptions(**{"model": "tiny", **others, field: value}), image)
    assert without != with_it


def test_a_processing_timeout_ends_the_image(client):
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(PICTURE, model="tiny", processing_timeout=1e-4)
    assert caught.value.reason == "DEADLINE"


def test_a_model_that_is_not_there_is_named(client):
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(PICTURE, model="nonesuch")
    assert caught.value.reason == "UNKNOWN_MODEL"
    assert caught.value.metadata == {"model": "nonesuch", "available": "isnet, tiny"}


# --- The command line ------------------------------------------------------------------------------------------------

# Every option at once, as --set takes it; without contradictions, so that alpha_mode is at its default.
FULL_REQUEST = {
    "preset": "trellis",
    "profile": "quality",
    "model": "tiny",
    "mask_threshold": "0.6",
    "mask_threshold_min": "0.3",
    "mask_threshold_max": "0.9",
    "use_adaptive_threshold": "false",
    "mask_quantization_bits": "16",
    "enable_antialiasing": "true",
    "interpolation_mode": "bicubic",
    "padding_percentage": "0.35",
    "use_smart_padding": "true",
    "adaptive_padding_factor": "2.0",
    "enable_edge_refinement": "true",
    "edge_refinement_radius": "7",
    "edge_refinement_eps": "0.002",
    "min_object_coverage": "0.001",
    "max_object_coverage": "0.8",
    "enable_quality_metrics": "true",
    "enable_multi_scale": "true",
    "multi_scale_factors": "0.75,1.0,1.25",
    "object_validation": "reject",
    "alpha_floor": "0.02",
    "framing": "object_crop",
    "output_width_px": "200",
    "output_height_px": "150",
    "size_mode": "longest_at_most",
    "output_format": "png",
    "channels": "rgb",
    "sample_type": "uint16",
    "alpha_mode": "straight",
    "background_color": "#336699",
    "estimate_foreground": "true",
    "png_compression_level": "6",
    "input_alpha": "ignore",
    "keep_components": "largest",
    "region_of_interest": "50,40,400,400",
    "content": "cutout_and_metrics",
    "processing_timeout": "20",
}
FULL_MESSAGE = pb.RemovalOptions(
    preset="trellis",
    profile=pb.PROFILE_QUALITY,
    model="tiny",
    mask_threshold=0.6,
    mask_threshold_min=0.3,
    mask_threshold_max=0.9,
    use_adaptive_threshold=False,
    mask_quantization_bits=16,
    enable_antialiasing=True,
    interpolation_mode=pb.INTERPOLATION_MODE_BICUBIC,
    padding_percentage=0.35,
    use_smart_padding=True,
    adaptive_padding_factor=2.0,
    enable_edge_refinement=True,
    edge_refinement_radius=7,
    edge_refinement_eps=0.002,
    min_object_coverage=0.001,
    max_object_coverage=0.8,
    enable_quality_metrics=True,
    enable_multi_scale=True,
    multi_scale_factors=[0.75, 1.0, 1.25],
    object_validation=pb.OBJECT_VALIDATION_REJECT,
    alpha_floor=0.02,
    framing=pb.FRAMING_OBJECT_CROP,
    output_width_px=200,
    output_height_px=150,
    size_mode=pb.SIZE_MODE_LONGEST_AT_MOST,
    output_format=pb.OUTPUT_FORMAT_PNG,
    channels=pb.CHANNELS_RGB,
    sample_type=pb.SAMPLE_TYPE_UINT16,
    alpha_mode=pb.ALPHA_MODE_STRAIGHT,
    background_color="#336699",
    estimate_foreground=True,
    png_compression_level=6,
    input_alpha=pb.INPUT_ALPHA_IGNORE,
    keep_components=pb.KEEP_COMPONENTS_LARGEST,
    region_of_interest=pb.Box(left_px=50, top_px=40, width_px=400, height_px=400),
    content=pb.CONTENT_CUTOUT_AND_METRICS,
    processing_timeout=Duration(seconds=20),
)


def command(server, folder, *settings):
    """Runs `cutstream remove` on the tricky picture, into out.png of the folder."""
    (folder / "in.png").write_bytes(tricky_picture())
    flags = [part for setting in settings for part in ("--set", setting)]
    arguments = [BIN / "cutstream", "remove", folder / "in.png", "-o", folder / "out.png", "--target", server.target]
    return subprocess.run([*arguments, *flags], check=False, capture_output=True, text=True, timeout=120)


def test_the_full_request_names_every_option():
    assert set(FULL_REQUEST) == {field.name for field, _ in FULL_MESSAGE.ListFields()} == set(FIELDS)


def test_a_full_request_gives_the_same_bytes_by_grpc_and_by_the_command(server, tmp_path):
    response, _ = answer(server, FULL_MESSAGE)
    finished = command(server, tmp_path, *(f"{name}={value}" for name, value in FULL_REQUEST.items()))
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out.png").read_bytes() == response.cutout.image


def test_the_command_names_every_wrong_option_before_it_sends_anything(server, tmp_path):
    finished = command(server, tmp_path, "padding_percentage=nan", "output_width_px=0", "colour=red")
    assert finished.returncode == 2
    assert all(name in finished.stderr for name in ("padding_percentage", "output_width_px", "colour"))
    assert not (tmp_path / "out.png").exists()
