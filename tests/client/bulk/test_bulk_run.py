"""`cutstream bulk` against the scripted server."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import fsspec
import grpc
import pytest
from typer.testing import CliRunner

from cutstream import cli_bulk
from cutstream.bulk.manifest import Manifest
from cutstream.bulk.storage import LocalStorage, RemoteStorage
from cutstream.cli import app
from cutstream.v1 import cutstream_pb2 as pb


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Runs the command in a folder with twelve photos in `photos`, whose bytes are their names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTSTREAM_TARGET", server.target)
    for number in range(12):
        path = Path(f"photos/{number % 3}/{number}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())

    def invoke(*arguments: str, stdin: bytes = b""):
        return CliRunner().invoke(app, ["bulk", *arguments], input=stdin)

    return invoke


def lines(out="out"):
    return [json.loads(line) for line in Path(out, "manifest.jsonl").read_text().splitlines()]


def inputs(server):
    return sorted(image.data.decode() for image in server.received)


def files(out="out"):
    return sorted(str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file())


ALL = sorted(f"{number}.jpg" for number in range(12))


def fail(server, *names):
    """Lets these images fail, and the others be."""

    async def script(image):
        if image.data.decode() in names:
            return server.failure(image, "NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION, found="0")
        return server.success(image)

    server.script = script


# Outputs and manifest


def test_every_image_gets_a_cutout_at_its_place_and_a_line(run, server):
    assert run("photos", "out").exit_code == 0
    assert files() == sorted([f"{n % 3}/{n}.png" for n in range(12)] + ["manifest.jsonl"])
    assert Path("out/1/4.png").read_bytes() == b"gpj.4"
    assert sorted(line["input"] for line in lines()) == sorted(str(p.absolute()) for p in Path("photos").rglob("*.jpg"))


def test_a_line_says_what_was_done(run):
    Path("one").mkdir()
    Path("one/cat.jpg").write_bytes(b"cat")
    assert run("one", "out").exit_code == 0
    (line,) = lines()
    status = Path("one/cat.jpg").stat()
    assert (line["size"], line["mtime"]) == (3, status.st_mtime_ns)
    assert (line["output"], line["status"], line["output_bytes"]) == ("cat.png", "ok", 3)
    assert line["sha256"] == hashlib.sha256(b"tac").hexdigest()
    assert (line["metrics"]["alpha_coverage"], line["metrics"]["validation"]) == (0.25, "ok")
    assert line["crop"] == {"left_px": -1.5, "top_px": 2.0, "width_px": 30.0, "height_px": 30.0}
    assert line["timings"]["client_seconds"] > 0


def test_a_failed_image_is_one_line_and_exit_code_1(run, server):
    fail(server, "5.jpg")
    result = run("photos", "out")
    assert result.exit_code == 1
    (error,) = [line for line in lines() if line["status"] == "error"]
    assert (error["input"], error["output"]) == (str(Path("photos/2/5.jpg").absolute()), None)
    assert (error["reason"], error["message"], error["metadata"]) == ("NO_OBJECT", "about NO_OBJECT", {"found": "0"})
    assert "11 ok, 1 failed, of 12 images" in result.stderr
    assert "failed: 1 NO_OBJECT" in result.stderr


def test_metrics_only_writes_no_cutouts(run, server):
    async def script(image):
        return [server.response(image=pb.ImageResult(image_id=image.image_id, cutout=pb.Cutout()))]

    server.script = script
    assert run("photos", "out", "--set", "content=metrics_only").exit_code == 0
    assert files() == ["manifest.jsonl"]
    assert run("photos", "out", "--set", "content=metrics_only", "--resume").exit_code == 0
    assert len(server.received) == 12


def test_options_and_format_reach_the_server(run, server):
    assert run("photos", "out", "--preset", "trellis", "--format", "webp", "--set", "mask_threshold=0.7").exit_code == 0
    expected = pb.RemovalOptions(preset="trellis", output_format=pb.OUTPUT_FORMAT_WEBP, mask_threshold=0.7)
    assert server.stream_configs[0].options == expected
    assert "0/3.webp" in files()


def test_the_window_bounds_what_is_on_its_way(run, server):
    async def script(image):
        await asyncio.sleep(0.01)
        return server.success(image)

    server.script = script
    run("photos", "out", "--window", "3")
    assert server.max_unanswered == 3


def test_a_list_on_standard_input_keeps_the_tree_below_base(run):
    assert run("-", "out", "--base", "photos", stdin=b"0/3.jpg\n1/4.jpg\n").exit_code == 0
    assert files() == ["0/3.png", "1/4.png", "manifest.jsonl"]


# Going on


def test_an_out_with_a_manifest_is_refused_without_a_choice(run, server):
    run("photos", "out")
    result = run("photos", "out")
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert "--overwrite" in result.stderr
    assert len(server.received) == 12


def test_overwrite_does_everything_again(run, server):
    run("photos", "out")
    assert run("photos", "out", "--overwrite").exit_code == 0
    assert (len(server.received), len(lines())) == (24, 12)


def test_overwrite_and_resume_exclude_each_other(run):
    assert run("photos", "out", "--overwrite", "--resume").exit_code == 2


def test_resume_does_nothing_when_all_is_done(run, server):
    run("photos", "out")
    result = run("photos", "out", "--resume")
    assert result.exit_code == 0
    assert "0 ok, 0 failed, 12 done before, of 12 images" in result.stderr
    assert (len(server.received), len(lines())) == (12, 12)


def test_resume_without_a_manifest_is_a_run(run):
    assert run("photos", "out", "--resume").exit_code == 0
    assert len(lines()) == 12


def change_the_source():
    Path("photos/1/4.jpg").write_bytes(b"other")


def touch_the_source():
    os.utime("photos/1/4.jpg", ns=(0, 0))


def shorten_the_output():
    Path("out/1/4.png").write_bytes(b"gp")


def remove_the_output():
    Path("out/1/4.png").unlink()


def tear_the_line():
    path = Path("out/manifest.jsonl")
    kept = [line for line in path.read_text().splitlines() if "photos/1/4.jpg" not in line]
    torn = next(line for line in path.read_text().splitlines() if "photos/1/4.jpg" in line)
    path.write_text("\n".join([*kept, torn[:50]]))


@pytest.mark.parametrize(
    "disturb", [change_the_source, touch_the_source, shorten_the_output, remove_the_output, tear_the_line]
)
def test_resume_does_again_where_manifest_and_files_disagree(run, server, disturb):
    run("photos", "out")
    server.received.clear()
    disturb()
    assert run("photos", "out", "--resume").exit_code == 0
    assert inputs(server) == [Path("photos/1/4.jpg").read_text()]
    assert Path("out/1/4.png").read_bytes() == Path("photos/1/4.jpg").read_bytes()[::-1]
    assert len({line["input"] for line in lines()}) == len(lines()) == 12


def test_resume_with_other_options_does_everything_again(run, server):
    run("photos", "out")
    server.received.clear()
    assert run("photos", "out", "--resume", "--set", "padding_percentage=0.3").exit_code == 0
    assert inputs(server) == ALL
    assert len(lines()) == 12


def test_resume_takes_new_images(run, server):
    run("photos", "out")
    server.received.clear()
    Path("photos/new.jpg").write_bytes(b"new")
    assert run("photos", "out", "--resume").exit_code == 0
    assert inputs(server) == ["new"]


def test_resume_leaves_failed_images_and_still_says_so(run, server):
    fail(server, "5.jpg")
    run("photos", "out")
    server.received.clear()
    result = run("photos", "out", "--resume")
    assert inputs(server) == []
    assert result.exit_code == 1
    assert "11 done before, 1 failed before" in result.stderr


def test_retry_failed_tries_only_those_again(run, server):
    fail(server, "5.jpg", "7.jpg")
    run("photos", "out")
    server.received.clear()
    fail(server, "7.jpg")
    assert run("photos", "out", "--retry-failed").exit_code == 1
    assert inputs(server) == ["5.jpg", "7.jpg"]
    assert [line["input"][-5:] for line in lines() if line["status"] == "error"] == ["7.jpg"]
    assert len(lines()) == 12


def test_the_report_is_made_of_the_whole_manifest(run, monkeypatch):
    seen = []

    def write_report(manifest, target):
        seen.append((manifest, target, len(manifest.read_text().splitlines())))

    monkeypatch.setitem(sys.modules, "cutstream.bulk.report", SimpleNamespace(write_report=write_report))
    assert run("photos", "out", "--report", "page.html").exit_code == 0
    assert seen == [(Path("out/manifest.jsonl").absolute(), Path("page.html"), 12)]


def test_a_report_that_cannot_be_made_is_said_before_the_run(run, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "cutstream.bulk.report", None)
    result = run("photos", "out", "--report", "page.html")
    assert result.exit_code == 2
    assert "report" in result.stderr
    assert not server.received


def test_a_report_that_cannot_be_written_costs_the_exit_code_only(run, monkeypatch):
    def write_report(manifest, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(sys.modules, "cutstream.bulk.report", SimpleNamespace(write_report=write_report))
    result = run("photos", "out", "--report", "page.html")
    assert result.exit_code == 1
    assert "page.html" in result.stderr
    assert "12 ok" in result.stderr


@pytest.mark.parametrize(("page", "exit_code"), [("photos/page.html", 2), ("photos/out/page.html", 0)])
def test_a_report_among_the_images_is_refused_unless_it_is_in_out(run, monkeypatch, page, exit_code):
    monkeypatch.setitem(sys.modules, "cutstream.bulk.report", SimpleNamespace(write_report=lambda *_: None))
    assert run("photos", "photos/out", "--report", page).exit_code == exit_code


# What breaks


def test_a_server_that_dies_in_between_costs_nothing(run, server):
    async def script(image):
        if len(server.stream_configs) == 1 and len(server.received) == 6:
            return server.end_stream(server.status(None, grpc.StatusCode.UNAVAILABLE))
        return server.success(image)

    server.script = script
    assert run("photos", "out").exit_code == 0
    assert len({line["input"] for line in lines()}) == len(lines()) == 12


def test_a_vanished_image_is_one_line(run):
    Path("list.txt").write_text("photos/0/3.jpg\nphotos/gone.jpg\n")
    assert run("list.txt", "out").exit_code == 1
    (error,) = [line for line in lines() if line["status"] == "error"]
    assert (error["reason"], error["size"]) == ("SOURCE_UNREADABLE", None)
    assert "No such file" in error["message"]


def test_an_unreadable_folder_is_said_and_the_others_are_done(run, server, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "1":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    result = run("photos", "out")
    assert result.exit_code == 1
    assert f"cannot list the folder {Path('photos/1').absolute()}" in result.stderr
    assert len(lines()) == len(server.received) == 8


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(run, monkeypatch):
    written = []
    write = LocalStorage.write

    def until_full(self, path, data):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(self, path, data)

    monkeypatch.setattr(LocalStorage, "write", until_full)
    result = run("photos", "out", "--window", "2")
    assert result.exit_code == 1
    assert "error: cannot write cutouts: No space left on device" in result.stderr
    assert "7 images are left: the same command with --resume does them" in result.stderr
    assert sorted(str(Path("out", line["output"]).absolute()) for line in lines()) == sorted(written)

    monkeypatch.setattr(LocalStorage, "write", write)
    assert run("photos", "out", "--resume").exit_code == 0
    assert len({line["input"] for line in lines()}) == len(lines()) == 12


def test_one_cutout_that_cannot_be_written_is_one_line(run):
    Path("out/1/4.png").mkdir(parents=True)
    assert run("photos", "out").exit_code == 1
    (error,) = [line for line in lines() if line["status"] == "error"]
    assert error["reason"] == "OUTPUT_UNWRITABLE"


def test_a_server_that_stays_away_ends_the_run_without_blaming_the_images(run, server):
    async def script(image):
        if len(server.received) == 3:
            asyncio.get_running_loop().create_task(server._server.stop(None))
            await asyncio.Event().wait()
        return server.success(image)

    server.script = script
    result = run("photos", "out", "--window", "1", "--timeout", "1")
    assert result.exit_code == 1
    assert f"no connection to {server.target}" in result.stderr
    assert [line["status"] for line in lines()] == ["ok", "ok"]
    assert "10 images are left" in result.stderr


def test_without_a_server_nothing_is_begun(run, server, monkeypatch):
    server.kill()
    monkeypatch.setattr("cutstream.cli_bulk._START_SECONDS", 0.2)
    result = run("photos", "out")
    assert result.exit_code == 1
    assert "SERVER_UNREACHABLE" in result.stderr
    assert not Path("out").exists()
    server.start()


def test_options_that_the_server_refuses_are_wrong_usage(run, server):
    server.refusal = server.status("INVALID_OPTIONS", grpc.StatusCode.INVALID_ARGUMENT)
    assert run("photos", "out").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "photos"], "could overwrite"),
        (["missing", "out"], "cannot read missing"),
        (["empty", "out"], "no images in empty"),
        (["photos", "photos/0/3.jpg/out"], "cannot write"),
        (["photos", "out", "--set", "mask_treshold=1"], "mask_threshold"),
        (["photos", "memory://out", "--report", "page.html"], "--report"),
    ],
)
def test_wrong_usage_is_said_and_nothing_is_sent(run, server, arguments, message):
    Path("empty").mkdir()
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert server.received == []


# Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_on_its_way(run, server, number):
    async def script(image):
        if len(server.received) == 2:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.2)
        return server.success(image)

    server.script = script
    result = run("photos", "out", "--window", "2")
    assert result.exit_code == 130
    assert len(lines()) == len(server.received) < 12
    assert "--resume" in result.stderr
    assert run("photos", "out", "--resume").exit_code == 0
    assert (len(lines()), inputs(server)) == (12, ALL)


def test_interrupted_twice_it_stops_at_once(run, server):
    async def script(image):
        if len(server.received) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        return server.success(image)

    server.script = script
    result = run("photos", "out", "--window", "1")
    assert result.exit_code == 130
    assert len(lines()) == 2


def test_the_signals_handlers_are_put_back(run):
    before = signal.getsignal(signal.SIGINT)
    run("photos", "out")
    assert signal.getsignal(signal.SIGINT) is before


# Object storage


@pytest.fixture
def bucket():
    """A bucket in memory with two images; its address."""
    address = f"memory://{uuid.uuid4()}"
    with fsspec.open(f"{address}/in/a/cat.jpg", "wb") as file:
        file.write(b"cat")
    with fsspec.open(f"{address}/in/dog.jpg", "wb") as file:
        file.write(b"dog")
    return address


def read(address):
    with fsspec.open(address) as file:
        return file.read()


def test_images_move_from_bucket_to_bucket_with_the_manifest(run, bucket):
    assert run(f"{bucket}/in", f"{bucket}/out").exit_code == 0
    assert (read(f"{bucket}/out/a/cat.png"), read(f"{bucket}/out/dog.png")) == (b"tac", b"god")
    manifest = [json.loads(line) for line in read(f"{bucket}/out/manifest.jsonl").splitlines()]
    assert sorted(line["output"] for line in manifest) == ["a/cat.png", "dog.png"]
    assert sorted(line["input"] for line in manifest)[1].endswith("/in/dog.jpg")


def test_a_bucket_goes_on_on_another_machine(run, server, bucket):
    run(f"{bucket}/in", f"{bucket}/out")
    assert run(f"{bucket}/in", f"{bucket}/out").exit_code == 2
    (journal,) = Path().glob("manifest-*.jsonl")
    journal.unlink()
    with fsspec.open(f"{bucket}/in/owl.jpg", "wb") as file:
        file.write(b"owl")
    server.received.clear()
    assert run(f"{bucket}/in", f"{bucket}/out", "--resume").exit_code == 0
    assert inputs(server) == ["owl"]


def test_images_come_from_a_bucket_into_a_folder(run, bucket):
    assert run(f"{bucket}/in", "out").exit_code == 0
    assert files() == ["a/cat.png", "dog.png", "manifest.jsonl"]


def test_a_list_may_be_of_a_bucket(run, bucket):
    Path("list.txt").write_text(f"{bucket}/in/a/cat.jpg\n")
    assert run("list.txt", "out", "--base", f"{bucket}/in").exit_code == 0
    assert files() == ["a/cat.png", "manifest.jsonl"]


# Other runs, other sources, other files


def test_a_model_that_is_away_for_longer_than_ten_attempts_costs_no_image(run, server, monkeypatch):
    monkeypatch.setattr("cutstream.retry.backoff_seconds", lambda failures, config: 0.0)

    async def script(image):
        if image.attempt <= 12:
            return server.failure(image, "MODEL_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
        return server.success(image)

    server.script = script
    assert run("photos", "out").exit_code == 0


def test_resume_with_other_images_is_refused_and_overwrites_nothing(run, server):
    Path("more").mkdir()
    Path("more/0.jpg").write_bytes(b"more")
    assert run("photos", "out").exit_code == 0
    before = len(server.received)
    result = run("more", "out", "--resume")
    assert result.exit_code == 2
    assert "other images" in " ".join(result.stderr.split())
    assert len(server.received) == before


def test_a_second_run_on_the_same_out_is_refused(run, server):
    with Manifest(Path("out/manifest.jsonl").absolute(), keep=True):
        result = run("photos", "out", "--resume")
    assert result.exit_code == 2
    assert "another run" in " ".join(result.stderr.split())
    assert not server.received


def test_a_pipe_among_the_images_is_none(run, server):
    os.mkfifo("photos/pipe.jpg")
    assert run("photos", "out").exit_code == 0
    assert inputs(server) == ALL


def test_a_pipe_in_a_list_is_one_error_line(run):
    os.mkfifo("pipe.jpg")
    assert run("-", "out", stdin=b"pipe.jpg\n").exit_code == 1
    (line,) = lines()
    assert line["reason"] == "SOURCE_UNREADABLE"


def test_a_list_may_come_through_a_pipe(run, server):
    os.mkfifo("list")
    writer = threading.Thread(target=lambda: Path("list").write_text("photos/1/4.jpg\n"))
    writer.start()
    assert run("list", "out").exit_code == 0
    writer.join()
    assert inputs(server) == ["4.jpg"]


def test_an_image_beyond_the_servers_limit_is_one_line_and_is_not_read(run, server, monkeypatch):
    server.server_info.limits.max_image_bytes = 1000
    with Path("photos/huge.jpg").open("wb") as file:
        file.truncate(1001)
    read = []
    original = LocalStorage.read
    monkeypatch.setattr(
        LocalStorage, "read", lambda self, path: (read.append(Path(path).name), original(self, path))[1]
    )
    assert run("photos", "out").exit_code == 1
    assert sorted(read) == ALL
    (error,) = [line for line in lines() if line["status"] == "error"]
    assert (error["reason"], error["metadata"]) == (
        "IMAGE_TOO_LARGE",
        {"limit": "1000", "measured": "1001", "unit": "bytes"},
    )


def test_a_full_folder_for_temporary_files_is_said(run, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            """Nothing to do."""

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: Full())
    result = run("photos", "out")
    assert result.exit_code == 2
    assert "TMPDIR" in result.stderr


def test_a_bucket_that_takes_nothing_is_known_before_any_image_is_sent(run, server, monkeypatch):
    def refuse(self, path, data):
        raise OSError("NoSuchBucket")

    monkeypatch.setattr(RemoteStorage, "write", refuse)
    result = run("photos", f"memory://{uuid.uuid4()}/out")
    assert result.exit_code == 2
    assert "NoSuchBucket" in " ".join(result.stderr.split())
    assert not server.received


def test_a_run_that_ended_while_this_one_listed_its_images_is_not_overwritten(run, server, monkeypatch):
    def list_slowly(*arguments):
        with Manifest(Path("out/manifest.jsonl").absolute(), keep=True) as manifest:
            manifest.append({"of": "the other run"})
        return list_sources(*arguments)

    list_sources = cli_bulk.list_sources
    monkeypatch.setattr(cli_bulk, "list_sources", list_slowly)
    result = run("photos", "out")
    assert result.exit_code == 2
    assert lines() == [{"of": "the other run"}]
    assert not server.received


def test_the_longer_manifest_of_a_bucket_wins_over_the_one_here(run, server, bucket):
    run(f"{bucket}/in", f"{bucket}/out")
    (journal,) = Path().glob("manifest-*.jsonl")
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    server.received.clear()
    assert run(f"{bucket}/in", f"{bucket}/out", "--resume").exit_code == 0
    assert inputs(server) == []


def test_the_longer_manifest_here_wins_over_that_of_the_bucket(run, server, bucket):
    run(f"{bucket}/in", f"{bucket}/out")
    with fsspec.open(f"{bucket}/out/manifest.jsonl", "wb") as file:
        file.write(b"")
    server.received.clear()
    assert run(f"{bucket}/in", f"{bucket}/out", "--resume").exit_code == 0
    assert inputs(server) == []
    assert len(read(f"{bucket}/out/manifest.jsonl").splitlines()) == 2
