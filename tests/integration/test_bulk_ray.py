"""`cutstream bulk --engine ray` on a real cluster of two nodes, with a node, a worker and the command killed.

CUTSTREAM_TEST_RAY_IMAGES sets how many images the test of the killed node takes (1000 is the acceptance).
"""

import os
import signal
import time
from collections import Counter

import pytest
from bulk_command import manifest, start_bulk, wait_for_lines
from PIL import Image
from ray_cluster import two_nodes, workers
from running import TINY_ONLY, descendants, read, running_server

IMAGE_COUNT = int(os.environ.get("CUTSTREAM_TEST_RAY_IMAGES", "1000"))
PATIENCE_SECONDS = 600
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def nodes():
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def start(server, nodes, tmp_path):
    """Starts the command on the cluster."""

    def begin(*arguments, on=server):
        return start_bulk(on, *arguments, "--engine", "ray", "--address", nodes[0].address, folder=tmp_path)

    return begin


def log(folder):
    return (folder / "bulk.log").read_text()


def assert_each_once(folder, out):
    lines = manifest(out)
    assert Counter(line["input"] for line in lines) == Counter(str(path) for path in folder.rglob("*.png"))
    assert Counter(line["status"] for line in lines) == {"ok": len(lines)}
    for line in lines:
        with Image.open(out / line["output"]) as cutout:
            cutout.load()
    # No parts, no temporary files and no others.
    assert sum(path.is_file() for path in out.rglob("*")) == len(lines) + 1
    assert not (out / ".cutstream-parts").exists()


def without_timings(out):
    lines = ({key: value for key, value in line.items() if key != "timings"} for line in manifest(out))
    return sorted(lines, key=lambda line: line["input"])


def test_a_killed_worker_costs_no_image(start, photos, tmp_path):
    folder, out = photos(300), tmp_path / "out"
    run = start(folder, out)
    wait_for_lines(out, 100, run, PATIENCE_SECONDS)
    os.kill(workers()[0], signal.SIGKILL)
    assert run.wait(PATIENCE_SECONDS) == 0, log(tmp_path)
    assert_each_once(folder, out)


def test_after_the_command_was_killed_another_goes_on_with_what_the_workers_noted(start, server, photos, tmp_path):
    folder, out = photos(300), tmp_path / "out"
    run = start(folder, out)
    wait_for_lines(out, 100, run, PATIENCE_SECONDS)
    run.kill()
    run.wait()
    wait_until_gone(workers)
    noted = len(manifest(out)) + sum(
        part.read_bytes().count(b"\n") for part in (out / ".cutstream-parts").rglob("*.jsonl")
    )
    kept = {line["input"]: (out / line["output"]).stat().st_mtime_ns for line in manifest(out)}

    # Also one on a single machine.
    assert start_bulk(server, folder, out, "--resume", folder=tmp_path).wait(PATIENCE_SECONDS) == 0, log(tmp_path)
    assert_each_once(folder, out)
    assert f"{noted} done before" in log(tmp_path)
    after = {line["input"]: (out / line["output"]).stat().st_mtime_ns for line in manifest(out)}
    assert {path: after[path] for path in kept} == kept


def test_failed_images_are_lines_that_a_second_run_leaves_or_tries_again(start, photos, tmp_path):
    folder, out = photos(120), tmp_path / "out"
    broken = folder / "1" / "077.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    assert start(folder, out).wait(PATIENCE_SECONDS) == 1
    assert "119 ok, 1 failed, of 120 images" in log(tmp_path)
    assert start(folder, out, "--resume").wait(PATIENCE_SECONDS) == 1
    assert "119 done before, 1 failed before, of 120 images" in log(tmp_path)
    broken.write_bytes(whole)
    assert start(folder, out, "--retry-failed").wait(PATIENCE_SECONDS) == 0
    assert_each_once(folder, out)


def test_interrupted_it_keeps_what_is_noted_and_says_how_to_go_on(start, photos, tmp_path):
    # More than all workers have at once: each has two blocks of a hundred.
    folder, out = photos(600), tmp_path / "out"
    run = start(folder, out)
    wait_for_lines(out, 100, run, PATIENCE_SECONDS)
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE_SECONDS) == 130, log(tmp_path)
    assert "stopping after the next block" in log(tmp_path)
    assert "--resume does them" in log(tmp_path)
    done = manifest(out)
    assert 100 <= len(done) < 600
    assert {line["output"] for line in done} <= {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert start(folder, out, "--resume").wait(PATIENCE_SECONDS) == 0, log(tmp_path)
    assert_each_once(folder, out)


def test_workers_that_serve_themselves_leave_no_server_behind(start, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("CUTSTREAM_MODEL_REPOSITORY", TINY_ONLY)
    monkeypatch.setenv("CUTSTREAM_MODEL", "tiny")
    folder, out = photos(250), tmp_path / "out"
    run = start(folder, out, "--serve-local", on=None)
    most = 0
    while run.poll() is None:
        most = max(most, len(servers_of_workers()))
        time.sleep(0.2)
    assert run.returncode == 0, log(tmp_path)
    assert_each_once(folder, out)
    # One for each node that had a block; the first may be quick enough to take all.
    assert most in {1, 2}
    wait_until_gone(servers_of_workers)


# The last one: it takes a node away.
def test_with_a_node_killed_half_way_the_result_is_that_of_a_single_machine(start, server, nodes, photos, tmp_path):
    cluster, second = nodes
    folder, out, alone = photos(IMAGE_COUNT), tmp_path / "out", tmp_path / "alone"
    assert start_bulk(server, folder, alone, folder=tmp_path).wait(PATIENCE_SECONDS) == 0
    run = start(folder, out)
    wait_for_lines(out, IMAGE_COUNT // 2, run, PATIENCE_SECONDS)
    assert len(workers()) == 2
    cluster.remove_node(second, allow_graceful=False)
    assert run.wait(PATIENCE_SECONDS) == 0, log(tmp_path)
    assert_each_once(folder, out)
    assert without_timings(out) == without_timings(alone)


def servers_of_workers():
    """Process ids of `cutstream-server serve` below this process's cluster: the test's own server is one more."""
    serving = [pid for pid in descendants(os.getpid()) if is_server(read(f"/proc/{pid}/cmdline").split("\0"))]
    return [pid for pid in serving if any(pid in descendants(worker) for worker in workers())]


def is_server(command):
    # What starts it again when it ends has the same words behind the name of its module.
    return "serve" in command and "cutstream.bulk.local_server" not in command


def wait_until_gone(find):
    end = time.monotonic() + 60
    while find():
        assert time.monotonic() < end
        time.sleep(0.1)
