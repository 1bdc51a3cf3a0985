"""One worker of a cluster, called as Ray calls it, against the scripted server."""

from __future__ import annotations

import math
import os
import shutil

import grpc
import pyarrow as pa
import pytest

from cutstream import Client, RetryConfig
from cutstream.bulk.manifest import ERROR, Done, State, options_hash
from cutstream.bulk.parts import Parts
from cutstream.bulk.ray_worker import Orders, Worker
from cutstream.bulk.run import RunSettings
from cutstream.bulk.storage import LocalStorage

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
HASH = options_hash({})


@pytest.fixture
def parts(tmp_path):
    opened = Parts(LocalStorage(), str(tmp_path / "out"))
    opened.begin()
    return opened


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def worker(server, tmp_path, photos):
    def make(retry_failed=False):
        settings = RunSettings({}, HASH, None, None, 10.0, retry_failed, math.inf)
        retry = RetryConfig(unreachable_seconds=0.2)

        def connect(target):
            return Client(target, retry=retry)

        return Worker(Orders(str(photos), str(tmp_path / "out"), ".png", settings, connect, server.target, {}))

    return make


def block(states=(None, None, None), names=NAMES):
    return pa.table(
        {
            "block": [7] * len(names),
            "number": list(range(len(names))),
            "relative": [os.fsencode(name) for name in names],
            "whole": [False] * len(names),
            "state": pa.array(states, pa.uint64()),
        }
    )


def sent(server):
    return sorted(image.data.decode() for image in server.received)


def state(path, status, output=None):
    done = Done()
    output, size = (None, None) if output is None else (output.name, output.stat().st_size)
    facts = LocalStorage().facts(str(path))
    done.add_state(str(path), State(facts, HASH, output, size, status).fingerprint())
    return done.state_of(str(path))


def test_a_block_is_written_and_noted_in_a_part_of_its_own(worker, parts, photos, tmp_path):
    assert worker()(block()) == {
        "block": [7], "done_before": [0], "failed_before": [0], "reason": [""], "problem": [""],
    }  # fmt: skip
    assert sorted(line["input"] for line in parts.lines(7)) == [str(photos / name) for name in NAMES]
    assert (tmp_path / "out" / "b.png").read_bytes() == b"gpj.b"


def test_a_cutout_with_a_neighbour_keeps_the_whole_name(worker, parts, tmp_path):
    worker()(block().set_column(3, "whole", pa.array([True, False, False])))
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a.jpg.png", "b.png", "c.png"}


def test_what_an_earlier_attempt_at_the_block_noted_is_not_sent_again(worker, parts, server, photos):
    worker()(block(names=NAMES[:2], states=[None, None]))
    worker()(block())
    assert sent(server) == NAMES


def test_what_was_done_before_the_run_is_skipped_and_counted(worker, parts, server, photos, tmp_path):
    cutout = tmp_path / "out" / "a.png"
    cutout.write_bytes(b"cutout")
    failed = state(photos / "b.jpg", ERROR)
    row = worker()(block([state(photos / "a.jpg", "ok", cutout), failed, None]))
    assert (row["done_before"], row["failed_before"], sent(server)) == ([1], [1], ["c.jpg"])


def test_what_had_failed_is_tried_again_on_demand(worker, parts, server, photos):
    failed = state(photos / "b.jpg", ERROR)
    worker(retry_failed=True)(block([None, failed, None]))
    assert sent(server) == NAMES


def test_an_out_that_this_node_does_not_reach_is_the_runs_problem(worker, tmp_path):
    (problem,) = worker()(block())["problem"]
    assert f"{tmp_path / 'out'} is not the OUT of this run here" in problem


def test_images_that_this_node_does_not_reach_are_the_runs_problem_and_not_theirs(worker, parts, photos):
    shutil.rmtree(photos)
    row = worker()(block())
    assert f"{photos} is not here" in row["problem"][0]
    assert list(parts.lines(7)) == []


def test_a_server_that_refuses_the_stream_is_the_runs_problem_with_its_reason(worker, parts, server):
    server.refusal = server.status("PERMISSION_DENIED", grpc.StatusCode.PERMISSION_DENIED)
    row = worker()(block())
    assert (row["reason"], row["problem"]) == (["PERMISSION_DENIED"], ["about PERMISSION_DENIED"])


def test_a_server_that_goes_away_is_the_runs_problem_and_costs_no_line(worker, parts, server):
    working = worker()
    working(block(names=NAMES[:1], states=[None]))
    server.kill()
    row = working(block())
    assert "no connection" in row["problem"][0]
    assert [line["input"].rpartition("/")[2] for line in parts.lines(7)] == ["a.jpg"]
