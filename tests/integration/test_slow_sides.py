"""A slow consumer holds back the source; a slow producer keeps its stream, or loses nothing with it."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from running import START_SECONDS, STOP_SECONDS, TINY_ONLY, RunningServer, free_port, wait_until_ready

import cutstream
from cutstream import wire

RESULT_SECONDS = 0.1
UPLOAD_TIMEOUT_SECONDS = 0.5
BALANCER_SECONDS = 2.0
PAUSE_SECONDS = 2 * BALANCER_SECONDS
OPTIONS = {"output_width_px": 64, "profile": "fast"}

# That clients may ping every 10 s at most is no setting.
PINGS_ALLOWED = """
from cutstream_server.rpc import server
server.LEAST_PING_INTERVAL_MS = 50
from cutstream_server.cli import main
main()
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A server with the tiny network whose patience ends after half a second."""
    folder = tmp_path_factory.mktemp("server")
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "CUTSTREAM_MODEL_REPOSITORY": TINY_ONLY,
        "CUTSTREAM_MODEL": "tiny",
        "CUTSTREAM_PAUSE_SECONDS": str(UPLOAD_TIMEOUT_SECONDS),
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PINGS_ALLOWED, "serve", "--listen", address],
            cwd=folder, env=environment, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_until_ready(RunningServer(address, process, folder / "server.log"), START_SECONDS)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")
def picture(draw):
    """A square in its middle, some 0.6 MB because of its noise."""
    mask = np.zeros((600, 600))
    mask[150:450, 150:450] = 1
    noise = np.random.default_rng(0).integers(0, 256, (2, *mask.shape), dtype=np.uint8)
    return draw(mask, green=noise[0], blue=noise[1])


@pytest.fixture
def streams(monkeypatch):
    """A letter for each stream that a client opens; the call itself, kept, would hold its connection open."""
    opened = []

    class Counted(wire.Wire):
        def __init__(self, connection):
            opened.append("s")
            super().__init__(connection)

    monkeypatch.setattr("cutstream.lane.Wire", Counted)
    return opened


# A slow consumer


def test_a_consumer_of_ten_results_a_second_is_never_a_window_behind_the_source(target, picture):
    window, asked_for, ahead = 6, 0, []

    def endless():
        for taken in itertools.count(1):
            ahead.append(taken - asked_for)
            yield picture

    with (
        cutstream.Client(target) as client,
        contextlib.closing(client.stream(endless(), window=window, **OPTIONS)) as results,
    ):
        for _ in range(30):
            asked_for += 1
            assert isinstance(next(results), cutstream.Cutout)
            time.sleep(RESULT_SECONDS)
    assert max(ahead) <= window
    # The source was always ready: the consumer was what it waited for.
    assert ahead[-10:] == [window] * 10


def test_the_memory_of_a_slow_consumers_stream_is_that_of_its_window(target, picture):
    window = 4

    def endless():
        while True:
            yield bytes(bytearray(picture))

    with (
        cutstream.Client(target) as client,
        contextlib.closing(client.stream(endless(), window=window, **OPTIONS)) as results,
    ):
        next(results)
        tracemalloc.start()
        try:
            for _ in range(25):
                next(results)
                time.sleep(RESULT_SECONDS)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # Each image of the window may exist three times: the caller's, ours, and as the chunks on their way to the server.
    assert peak_bytes < 3 * (window + 1) * len(picture)


# A slow producer


class Balancer:
    """Passes connections on to a server, and drops those on which nothing has moved for a while."""

    def __init__(self, target, idle_seconds):
        self._upstream = target.rpartition(":")
        self._idle_seconds = idle_seconds
        self._served = []
        self.connections = self.dropped = 0
        self.address = ""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error):
        self._server.close()
        # A connection that stays half open would hold up the server's stop for 20 s.
        await asyncio.gather(*self._served)

    async def _serve(self, reader, writer):
        self._served.append(asyncio.current_task())
        self.connections += 1
        host, _, port = self._upstream
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        loop = asyncio.get_running_loop()
        moved = loop.time()

        async def pass_on(source, destination):
            nonlocal moved
            while data := await source.read(1 << 16):
                moved = loop.time()
                destination.write(data)
                await destination.drain()

        ways = {
            asyncio.create_task(pass_on(reader, server_writer)),
            asyncio.create_task(pass_on(server_reader, writer)),
        }
        done = set()
        while not done and loop.time() - moved < self._idle_seconds:
            done, _ = await asyncio.wait(ways, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        self.dropped += not done
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for side in (writer, server_writer):
            side.transport.abort()


async def with_a_pause(picture):
    """Two images with a pause between them."""
    yield "first", picture
    await asyncio.sleep(PAUSE_SECONDS)
    yield "second", picture


async def cut_out(target, images, **config):
    async with cutstream.AsyncClient(target, **config) as client:
        return [result async for result in client.stream(images, **OPTIONS)]


def assert_both_cut_out(results):
    assert [result.image_id for result in results] == ["first", "second"]
    assert all(isinstance(result, cutstream.Cutout) for result in results), results


async def test_pauses_between_images_beyond_the_upload_timeout_leave_the_stream_alone(target, picture, streams):
    async with cutstream.AsyncClient(target) as client:
        limits = (await client.info()).limits
    assert limits.upload_timeout_seconds == UPLOAD_TIMEOUT_SECONDS < PAUSE_SECONDS
    assert_both_cut_out(await cut_out(target, with_a_pause(picture)))
    assert len(streams) == 1


async def test_keep_alive_keeps_the_stream_through_a_balancer_that_drops_silent_connections(target, picture, streams):
    keep_alive = cutstream.KeepAliveConfig(interval_seconds=BALANCER_SECONDS / 8)
    async with Balancer(target, BALANCER_SECONDS) as balancer:
        results = await cut_out(balancer.address, with_a_pause(picture), keep_alive=keep_alive)
        assert (len(streams), balancer.connections, balancer.dropped) == (1, 1, 0)
    assert_both_cut_out(results)


async def test_a_connection_that_a_balancer_dropped_in_a_pause_costs_no_image(target, picture, streams):
    async with Balancer(target, BALANCER_SECONDS) as balancer:
        results = await cut_out(balancer.address, with_a_pause(picture))
    assert_both_cut_out(results)
    assert balancer.dropped >= 1
    assert len(streams) == 2
