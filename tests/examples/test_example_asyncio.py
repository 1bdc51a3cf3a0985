"""The service loses nothing, stops in order, and stops at once when it is cancelled."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from examples.asyncio_service import serve
from PIL import Image
from running import ROOT

import cutstream

PATIENCE_SECONDS = 30


@pytest.fixture
def folders(tmp_path):
    folders = tmp_path / "inbox", tmp_path / "outbox"
    for folder in folders:
        folder.mkdir()
    return folders


@contextlib.asynccontextmanager
async def serving(target, folders):
    """The service at work: its task, and the event that stops it."""
    stop = asyncio.Event()
    async with cutstream.AsyncClient(target) as client:
        task = asyncio.create_task(serve(client, *folders, stop))
        try:
            yield task, stop
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def put(folder, name, data):
    (folder / f"{name}.part").write_bytes(data)
    (folder / f"{name}.part").rename(folder / name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_images_become_cutouts_and_leave_the_inbox(server, folders, square):
    inbox, outbox = folders
    put(inbox, "before.png", square(64))
    async with serving(server.target, folders):
        await until(lambda: names(outbox) == ["before.png.png"])
        put(inbox, "later.png", square(80))
        await until(lambda: not names(inbox))
    assert names(outbox) == ["before.png.png", "later.png.png"]
    with Image.open(outbox / "later.png.png") as cutout:
        assert cutout.mode == "RGBA"
        assert np.asarray(cutout)[259, 259, 3] == 255


async def test_an_image_that_fails_moves_away_with_its_reason_and_the_others_go_on(server, folders, square):
    inbox, outbox = folders
    put(inbox, "bad.png", b"no image")
    put(inbox, "good.png", square(64))
    async with serving(server.target, folders):
        await until(lambda: names(inbox) == ["failed"] and names(outbox))
    assert names(outbox) == ["good.png.png"]
    assert names(inbox / "failed") == ["bad.png", "bad.png.json"]
    assert json.loads((inbox / "failed" / "bad.png.json").read_text())["reason"] == "UNSUPPORTED_FORMAT"


async def test_the_trouble_of_a_server_leaves_the_image_for_the_next_time(server, folders, square, monkeypatch):
    remaining = [cutstream.CutoutError("OVERLOADED", "busy", image_id="a.png")]
    inbox, outbox = folders
    put(inbox, "a.png", square(64))
    stream = cutstream.AsyncClient.stream

    async def first_fails(self, images, **options):
        async for result in stream(self, images, **options):
            yield remaining.pop() if remaining else result

    monkeypatch.setattr(cutstream.AsyncClient, "stream", first_fails)
    async with serving(server.target, folders):
        await until(lambda: names(outbox) == ["a.png.png"])
    assert remaining == []
    assert names(inbox) == []


async def test_stopped_it_finishes_what_it_took_and_ends(server, folders, square):
    inbox, outbox = folders
    for number in range(40):
        put(inbox, f"{number:02}.png", square(64 + number))
    async with serving(server.target, folders) as (task, stop):
        await until(lambda: names(outbox))
        stop.set()
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    done = [name.removesuffix(".png") for name in names(outbox)]
    assert 0 < len(done) < 40
    assert sorted(done + names(inbox)) == [f"{number:02}.png" for number in range(40)]


async def test_cancelled_it_stops_at_once_and_the_unfinished_stay_in_the_inbox(server, folders, square):
    inbox, outbox = folders
    for number in range(40):
        put(inbox, f"{number:02}.png", square(64 + number))
    async with serving(server.target, folders) as (task, _):
        await until(lambda: names(outbox))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    # A file that was being moved while the task was cancelled may be on both sides.
    everything = {name.removesuffix(".png").removesuffix(".part") for name in names(outbox)} | set(names(inbox))
    assert {name.removesuffix(".png") for name in everything} == {f"{number:02}" for number in range(40)}
    assert len(names(inbox)) > 0


async def test_a_refused_stream_ends_the_service_with_its_error(server, folders, monkeypatch):
    def refused(self, images, **options):
        raise cutstream.CutoutError("UNAUTHENTICATED", "no token")

    monkeypatch.setattr(cutstream.AsyncClient, "stream", refused)
    async with serving(server.target, folders) as (task, _):
        with pytest.raises(cutstream.CutoutError, match="UNAUTHENTICATED"):
            await task


def test_the_program_ends_in_order_when_it_is_interrupted(server, folders, square):
    inbox, outbox = folders
    put(inbox, "a.png", square(64))
    command = [sys.executable, "-m", "examples.asyncio_service", inbox, outbox, "--target", server.target]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
        end = time.monotonic() + PATIENCE_SECONDS
        while names(inbox) and time.monotonic() < end:
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_SECONDS) == 0, program.stderr.read()
    assert names(outbox) == ["a.png.png"]
