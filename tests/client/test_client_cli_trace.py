"""`cutstream remove --trace`: the id to look for, and where the time went."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cutstream.cli import app
from cutstream.cli_trace import ImageTrace, show
from cutstream.results import StageDurations

TRACE = ImageTrace("4bf92f3577b34da6a3ce929d0e0e4736", 2.0)


def shown(trace, durations, width=80):
    text = io.StringIO()
    show(Console(file=text, width=width), trace, durations)
    return text.getvalue()


@pytest.fixture
def run(server, tmp_path):
    """Runs a command in a folder with two photos, against the server; in a process, for tracing cannot be undone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["CUTSTREAM_TARGET"] = server.target
    for name in ("cat.jpg", "dog.jpg"):
        (tmp_path / name).write_bytes(name.encode())

    def invoke(*arguments):
        command = [Path(sys.executable).parent / "cutstream", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return invoke


def trace_ids(server):
    return {image.image_id: image.traceparent.split("-")[1] for image in server.received}


def test_the_time_of_each_stage_is_a_bar_where_it_was():
    durations = StageDurations(
        queue_seconds=0.1, decode_seconds=0.3, segmentation_seconds=0.5, encoding_seconds=0.1, total_seconds=1.0
    )
    # 60 columns for 2 s: one for 33 ms.
    bars = [
        ("client", 0, 60, 2.0),
        ("server", 30, 30, 1.0),
        ("queue", 30, 3, 0.1),
        ("decode", 33, 9, 0.3),
        ("segmentation", 42, 15, 0.5),
        ("encoding", 57, 3, 0.1),
    ]
    rows = [
        f"  {label:<12}{' ' * start}{'█' * length}{' ' * (60 - start - length)}  {seconds:7.3f} s"
        for label, start, length, seconds in bars
    ]
    assert shown(TRACE, durations, width=100).splitlines() == [f"  trace {TRACE.trace_id}", *rows]


@pytest.mark.parametrize("width", [40, 80, 300])
def test_it_fits_the_screen(width):
    durations = StageDurations(queue_seconds=9.0, decode_seconds=0.0, total_seconds=9.0)
    lines = shown(TRACE, durations, width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) == 5


def test_without_times_of_the_server_there_is_the_time_of_the_client():
    assert [line.split()[0] for line in shown(TRACE, None).splitlines()] == ["trace", "client"]


def test_an_image_that_was_not_sent_says_so():
    assert shown(None, None).startswith("  no trace: ")


def test_each_of_several_images_has_its_trace(run, server):
    result = run("remove", "cat.jpg", "dog.jpg", "-o", "out", "--trace")
    assert result.returncode == 0
    printed = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("  trace ")]
    assert printed == [trace_ids(server)["cat.jpg"], trace_ids(server)["dog.jpg"]]


def test_json_has_the_trace_id_as_a_member(run, server):
    result = run("remove", "cat.jpg", "--trace", "--json")
    assert json.loads(result.stdout)["trace_id"] == trace_ids(server)["cat.jpg"]


def test_a_failed_images_trace_is_below_its_error(run, server):
    async def script(image):
        return server.failure(image, "NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION)

    server.script = script
    lines = run("remove", "cat.jpg", "--trace").stderr.splitlines()
    assert lines[0].startswith("error: cat.jpg: NO_OBJECT")
    assert f"  trace {trace_ids(server)['cat.jpg']}" in lines


def test_without_the_option_nothing_is_traced(run, server):
    assert "trace" not in run("remove", "cat.jpg").stdout
    assert server.received[0].traceparent == ""


def test_without_opentelemetry_the_option_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    result = CliRunner().invoke(app, ["remove", "cat.jpg", "--trace"])
    assert result.exit_code == 2
    assert "opentelemetry-sdk" in result.stderr
