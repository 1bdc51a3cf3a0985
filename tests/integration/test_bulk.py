"""`cutstream bulk` against the real server, with either side killed in the middle.

CUTSTREAM_TEST_BULK_IMAGES sets how many images the test of the killed server takes (2000 is the acceptance).
"""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bulk_command import manifest, start_bulk, wait_for_lines
from PIL import Image
from running import BIN, STOP_SECONDS, TINY_ONLY, RunningServer, free_port, wait_until_ready

IMAGE_COUNT = int(os.environ.get("CUTSTREAM_TEST_BULK_IMAGES", "600"))


class RestartingServer:
    """A server that can be SIGKILLed and started again on the same port."""

    def __init__(self, folder):
        self.target = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._process = None

    def start(self):
        environment = {**os.environ, "CUTSTREAM_MODEL_REPOSITORY": TINY_ONLY, "CUTSTREAM_MODEL": "tiny"}
        log = self._folder / "server.log"
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [BIN / "cutstream-server", "serve", "--listen", self.target],
                cwd=self._folder, env=environment, stderr=stderr, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        wait_until_ready(RunningServer(self.target, self._process, log))

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    restarting = RestartingServer(tmp_path_factory.mktemp("server"))
    restarting.start()
    yield restarting
    restarting.stop()


@pytest.fixture
def photos(tmp_path, draw):
    """Makes a folder of drawn pictures of 64 to 128 pixels, ten to a folder."""

    def make(count):
        folder = tmp_path / "photos"
        for number in range(count):
            side = 64 + number % 65
            mask = np.zeros((side, side))
            mask[side // 4 : -side // 4, side // 4 : -side // 4] = 1
            path = folder / f"{number // 10:04}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw(mask))
        return folder

    return make


def assert_each_once(folder, out):
    lines = manifest(out)
    assert Counter(line["input"] for line in lines) == Counter(str(path) for path in folder.rglob("*.png"))
    for line in lines:
        assert line["status"] == "ok", line
        with Image.open(out / line["output"]) as cutout:
            cutout.load()
            assert cutout.size == (96, 96)
    # No temporary files and no others.
    assert sum(path.is_file() for path in out.rglob("*")) == len(lines) + 1


@pytest.mark.timeout(900)
def test_every_image_is_done_once_while_the_server_is_killed_three_times(server, photos, tmp_path):
    folder, out = photos(IMAGE_COUNT), tmp_path / "out"
    run = start_bulk(server, folder, out, folder=tmp_path)
    for quarter in (1, 2, 3):
        wait_for_lines(out, IMAGE_COUNT * quarter // 4, run)
        server.kill()
        server.start()
    assert run.wait(600) == 0, Path(tmp_path / "bulk.log").read_text()
    assert_each_once(folder, out)


def test_a_killed_client_goes_on_with_nothing_twice_and_nothing_missed(server, photos, tmp_path):
    folder, out = photos(200), tmp_path / "out"
    run = start_bulk(server, folder, out, folder=tmp_path)
    wait_for_lines(out, 60, run)
    run.kill()
    run.wait()
    before = manifest(out)
    damaged = out / before[0]["output"]
    damaged.write_bytes(damaged.read_bytes()[:100])
    kept = {line["input"]: (out / line["output"]).stat().st_mtime_ns for line in before[1:]}
    with (out / "manifest.jsonl").open("ab") as torn:
        torn.write(b'{"input": "torn by the cra')

    assert start_bulk(server, folder, out, "--resume", folder=tmp_path).wait(300) == 0
    assert_each_once(folder, out)
    after = {line["input"]: (out / line["output"]).stat().st_mtime_ns for line in manifest(out)}
    assert {path: after[path] for path in kept} == kept
    assert len(damaged.read_bytes()) > 100


def test_interrupted_it_finishes_what_is_on_its_way_and_says_how_to_go_on(server, photos, tmp_path):
    folder, out = photos(200), tmp_path / "out"
    run = start_bulk(server, folder, out, folder=tmp_path)
    wait_for_lines(out, 30, run)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    done = {line["output"] for line in manifest(out)}
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == done
    assert len(done) < 200
    assert "--resume" in (tmp_path / "bulk.log").read_text()
    assert start_bulk(server, folder, out, "--resume", folder=tmp_path).wait(120) == 0
    assert_each_once(folder, out)
