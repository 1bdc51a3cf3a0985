"""The command line against the scripted server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from cutstream import RetryConfig, cli_remove
from cutstream.cli import app
from cutstream.cli_options import parse_options
from cutstream.options import options_to_proto
from cutstream.v1 import cutstream_pb2 as pb

BOX = pb.Box(left_px=1, top_px=2, width_px=3, height_px=4)


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Runs a command in an empty folder with two photos, against the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTSTREAM_TARGET", server.target)
    monkeypatch.setenv("COLUMNS", "200")
    Path("cat.jpg").write_bytes(b"cat")
    Path("dog.png").write_bytes(b"dog")

    def invoke(*arguments: str, stdin: bytes = b""):
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return invoke


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def refuse_everything(server, reason: str = "NO_OBJECT", code=grpc.StatusCode.FAILED_PRECONDITION):
    async def script(image):
        return server.failure(image, reason, code, measured="0.01")

    server.script = script


# Where cutouts go


def test_the_cutout_lies_beside_its_image_by_default(run):
    assert run("remove", "cat.jpg").exit_code == 0
    assert Path("cat.cutout.png").read_bytes() == b"tac"


def test_output_names_the_file_and_its_folder_is_made(run):
    assert run("remove", "cat.jpg", "-o", "out/new/chair.png").exit_code == 0
    assert Path("out/new/chair.png").read_bytes() == b"tac"


def test_several_images_go_into_a_folder(run):
    assert run("remove", "cat.jpg", "dog.png", "-o", "out").exit_code == 0
    assert (Path("out/cat.cutout.png").read_bytes(), Path("out/dog.cutout.png").read_bytes()) == (b"tac", b"god")


def test_an_existing_folder_takes_one_image_too(run):
    Path("out").mkdir()
    assert run("remove", "cat.jpg", "-o", "out").exit_code == 0
    assert Path("out/cat.cutout.png").exists()


@pytest.mark.parametrize("arguments", [["remove", "-"], ["remove", "-", "-o", "-"]])
def test_standard_input_goes_to_standard_output(run, arguments):
    result = run(*arguments, stdin=b"\x00from a pipe\xff")
    assert result.exit_code == 0
    assert result.stdout_bytes == b"\xffepip a morf\x00"


def test_standard_input_can_go_to_a_file(run):
    assert run("remove", "-", "-o", "a.png", stdin=b"abc").exit_code == 0
    assert Path("a.png").read_bytes() == b"cba"


def test_a_file_can_go_to_standard_output(run):
    assert run("remove", "cat.jpg", "-o", "-").stdout_bytes == b"tac"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cat.jpg", "dog.png", "-o", "-"], "standard output holds one cutout"),
        (["cat.jpg", "cat.jpg", "-o", "out"], "would both be"),
        (["dog.png", "-o", "dog.png"], "would overwrite the image"),
        (["cat.jpg", "-o", "dog.png/x.png"], "cannot make the folder"),
    ],
)
def test_cutouts_that_would_get_lost_are_wrong_usage(run, arguments, message):
    result = run("remove", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert files() == ["cat.jpg", "dog.png"]


# Options


def test_options_reach_the_server(run, server):
    run("remove", "cat.jpg", "--preset", "trellis", "--set", "mask_threshold=0.7", "--set", "framing=full")
    assert server.stream_configs[0].options == pb.RemovalOptions(
        preset="trellis", mask_threshold=0.7, framing=pb.FRAMING_FULL
    )


@pytest.mark.parametrize(
    ("arguments", "expected", "name"),
    [
        (["--format", "webp"], pb.OUTPUT_FORMAT_WEBP, "cat.cutout.webp"),
        (["--set", "output_format=raw"], pb.OUTPUT_FORMAT_RAW, "cat.cutout.raw"),
        (["-o", "x.webp"], pb.OUTPUT_FORMAT_WEBP, "x.webp"),
        (["-o", "x.webp", "--format", "png"], pb.OUTPUT_FORMAT_PNG, "x.webp"),
    ],
)
def test_the_format_comes_from_the_flag_or_the_suffix(run, server, arguments, expected, name):
    assert run("remove", "cat.jpg", *arguments).exit_code == 0
    assert server.stream_configs[0].options.output_format == expected
    assert name in files()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mask_treshold=0.5", "no such option; did you mean 'mask_threshold'?"),
        ("output_format=wepb", "did you mean 'webp'?"),
        ("mask_threshold=2", "must be 0 to 1, not 2"),
        ("mask_threshold=high", "must be a number, not 'high'"),
        ("output_width_px=5.5", "must be a whole number, not '5.5'"),
        ("use_smart_padding=perhaps", "must be True or False"),
        ("mask_threshold", "--set takes NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_wrong_usage_and_nothing_is_sent(run, server, setting, message):
    result = run("remove", "cat.jpg", "--set", setting)
    assert result.exit_code == 2
    assert message in result.stderr
    assert server.stream_configs == []


def test_all_wrong_settings_are_named_at_once(run):
    result = run("remove", "cat.jpg", "--set", "a=1", "--set", "framing=wide")
    assert "a: no such option" in result.stderr
    assert "framing: 'wide' is not one of" in result.stderr


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("preset=trellis", pb.RemovalOptions(preset="trellis")),
        ("mask_threshold=0.5", pb.RemovalOptions(mask_threshold=0.5)),
        ("output_width_px=64", pb.RemovalOptions(output_width_px=64)),
        ("use_smart_padding=false", pb.RemovalOptions(use_smart_padding=False)),
        ("use_smart_padding=Yes", pb.RemovalOptions(use_smart_padding=True)),
        ("interpolation_mode=Lanczos", pb.RemovalOptions(interpolation_mode=pb.INTERPOLATION_MODE_LANCZOS)),
        ("multi_scale_factors=0.5,1", pb.RemovalOptions(multi_scale_factors=[0.5, 1])),
        ("multi_scale_factors=[0.5, 1]", pb.RemovalOptions(multi_scale_factors=[0.5, 1])),
        ("region_of_interest=1,2,3,4", pb.RemovalOptions(region_of_interest=BOX)),
        ("background_color=#ffffff", pb.RemovalOptions(background_color="#ffffff")),
    ],
)  # fmt: skip
def test_settings_are_read_by_the_type_of_their_option(setting, expected):
    assert options_to_proto(parse_options([setting], preset=None, output_format=None)) == expected


# What is printed


def test_json_prints_one_object_for_each_image(run, server):
    result = run("remove", "cat.jpg", "dog.png", "-o", "out", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["input"], line["output"], line["status"]) for line in lines] == [
        ("cat.jpg", "out/cat.cutout.png", "ok"),
        ("dog.png", "out/dog.cutout.png", "ok"),
    ]
    assert lines[0]["metrics"]["alpha_coverage"] == 0.25
    assert lines[0]["crop"] == {"left_px": -1.5, "top_px": 2.0, "width_px": 30.0, "height_px": 30.0}
    assert (lines[0]["width_px"], lines[0]["media_type"]) == (518, "image/png")


def test_json_goes_to_standard_error_when_the_cutout_goes_to_standard_output(run):
    result = run("remove", "cat.jpg", "-o", "-", "--json")
    assert result.stdout_bytes == b"tac"
    assert json.loads(result.stderr)["status"] == "ok"


def test_without_json_a_line_says_what_went_where(run):
    assert run("remove", "cat.jpg").stdout == "cat.jpg -> cat.cutout.png  518 x 518\n"


def test_names_with_brackets_are_printed_as_they_are(run):
    Path("cat[bold].jpg").write_bytes(b"x")
    assert "cat[bold].jpg -> cat[bold].cutout.png" in run("remove", "cat[bold].jpg").stdout


def test_open_shows_the_cutout(run, monkeypatch):
    opened = []
    monkeypatch.setattr(cli_remove.typer, "launch", opened.append)
    run("remove", "cat.jpg", "--open")
    assert opened == ["cat.cutout.png"]


# Failures


def test_a_failed_image_is_one_clear_error_and_exit_code_1(run, server):
    refuse_everything(server)
    result = run("remove", "cat.jpg")
    assert result.exit_code == 1
    assert "error: cat.jpg: NO_OBJECT: about NO_OBJECT (measured=0.01)" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert files() == ["cat.jpg", "dog.png"]


def test_the_other_images_are_done_all_the_same(run):
    result = run("remove", "missing.jpg", "cat.jpg", "-o", "out")
    assert result.exit_code == 1
    assert "missing.jpg: SOURCE_UNREADABLE" in result.stderr
    assert Path("out/cat.cutout.png").exists()


def test_a_failure_in_json_has_its_parts(run, server):
    refuse_everything(server)
    report = json.loads(run("remove", "cat.jpg", "--json").stdout)
    assert (report["status"], report["reason"], report["code"]) == ("failed", "NO_OBJECT", "FAILED_PRECONDITION")
    assert (report["metadata"], report["metrics"]["alpha_coverage"]) == ({"measured": "0.01"}, 0.25)


def test_an_unwritable_output_is_its_images_failure(run):
    Path("a.png").mkdir()
    Path("a.png/cat.cutout.png").mkdir()
    result = run("remove", "cat.jpg", "-o", "a.png")
    assert result.exit_code == 1
    assert "OUTPUT_UNWRITABLE" in result.stderr


def test_options_that_the_server_refuses_are_wrong_usage(run, server):
    server.refusal = server.status("INVALID_OPTIONS", grpc.StatusCode.INVALID_ARGUMENT)
    result = run("remove", "cat.jpg")
    assert result.exit_code == 2
    assert "INVALID_OPTIONS" in result.stderr


def test_an_unreachable_server_is_said_with_what_to_do(run, server, monkeypatch):
    server.kill()
    monkeypatch.setattr("cutstream.cli_connection._IMPATIENT", RetryConfig(unreachable_seconds=0.2))
    for command in (["remove", "cat.jpg"], ["info"]):
        result = run(*command)
        assert result.exit_code == 1
        assert f"SERVER_UNREACHABLE: no connection to {server.target}" in result.stderr
        assert "cutstream-server serve" in result.stderr
    server.start()


def test_a_token_in_plain_text_to_another_machine_is_wrong_usage(run):
    Path("token").write_text("secret\n")
    result = run("remove", "cat.jpg", "--target", "example.org:1", "--token-file", "token")
    assert result.exit_code == 2
    assert "needs TLS" in result.stderr


def test_a_token_file_is_sent_without_its_line_end(run, server):
    Path("token").write_text("secret\n")
    assert run("remove", "cat.jpg", "--token-file", "token").exit_code == 0
    assert server.tokens == ["Bearer secret"]


def test_metrics_only_writes_no_file(run, server):
    async def script(image):
        result = pb.ImageResult(image_id=image.image_id, cutout=pb.Cutout(), metrics=server.metrics())
        return [server.response(image=result)]

    server.script = script
    result = run("remove", "cat.jpg", "--set", "content=metrics_only", "--json")
    assert json.loads(result.stdout)["metrics"]["alpha_coverage"] == 0.25
    assert "output" not in json.loads(result.stdout)
    assert files() == ["cat.jpg", "dog.png"]


# The other commands


INFO = pb.GetServerInfoResponse(
    version="9.9",
    models=[pb.ModelInfo(name="isnet", version="1", state=pb.MODEL_STATE_READY, licence="Apache-2.0")],
    default_options=pb.RemovalOptions(mask_threshold=0.8, framing=pb.FRAMING_OBJECT_CROP, multi_scale_factors=[0.8, 1]),
    presets=[pb.PresetInfo(name="trellis", description="Frames as TRELLIS does.")],
    limits=pb.ServerLimits(max_image_bytes=32 * 1024 * 1024, max_in_flight=16),
    triton=pb.TritonInfo(embedded=True, ready=True, transport="grpc"),
    input_formats=["JPEG", "PNG"],
)


def test_info_shows_tables(run, server):
    server.server_info = INFO
    result = run("info")
    assert result.exit_code == 0
    for shown in ("Cutstream 9.9, embedded Triton ready (grpc)", "Reads JPEG, PNG", "isnet", "Apache-2.0",
                  "Frames as TRELLIS does.", "32 MiB", "mask_threshold", "0.8,1", "object_crop"):  # fmt: skip
        assert shown in result.stdout


def test_info_prints_json(run, server):
    server.server_info = INFO
    info = json.loads(run("info", "--json").stdout)
    assert (info["version"], info["models"][0]["name"], info["models"][0]["state"]) == ("9.9", "isnet", "ready")
    assert info["default_options"] == {
        "mask_threshold": 0.8,
        "multi_scale_factors": [0.8, 1.0],
        "framing": "object_crop",
    }


def test_help_teaches_by_examples(run):
    assert "cutstream remove chair.jpg -o chair.png --preset trellis --open" in run("remove", "--help").stdout


def test_the_installed_command_works_in_a_pipe(server):
    command = Path(sys.executable).with_name("cutstream")
    done = subprocess.run(
        [command, "remove", "-"], input=b"abc", capture_output=True, check=True,
        env={**os.environ, "CUTSTREAM_TARGET": server.target},
    )  # fmt: skip
    assert done.stdout == b"cba"
