"""What the workers of a cluster note, and how it comes into the manifest."""

from __future__ import annotations

import itertools

import fsspec
import pytest

from cutstream.bulk.manifest import Manifest, read_lines
from cutstream.bulk.parts import FOLDER, Parts
from cutstream.bulk.storage import LocalStorage, RemoteStorage

_NUMBERS = itertools.count()


@pytest.fixture(params=["disk", "store"])
def parts(request, tmp_path):
    if request.param == "disk":
        return Parts(LocalStorage(), str(tmp_path / "out"))
    return Parts(RemoteStorage(fsspec.filesystem("memory"), "memory"), f"/parts{next(_NUMBERS)}")


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "manifest.jsonl", keep=False) as opened:
        yield opened


def line(name):
    return {"input": name, "status": "ok", "size": 1, "mtime": 2, "options": "", "output": name, "output_bytes": 3}


def note(parts, block, *names):
    with parts.writing(block) as part:
        for name in names:
            part.append(line(name))


def names(lines):
    return [found["input"] for found in lines]


def test_a_mark_tells_that_this_is_the_out_of_the_run(parts):
    assert not parts.can_be_seen()
    parts.begin()
    assert parts.can_be_seen()


def test_a_block_is_merged_once_and_alone(parts, manifest, tmp_path):
    note(parts, 1, "a", "b")
    note(parts, 2, "c")
    assert names(parts.merge(manifest, 1)) == ["a", "b"]
    assert names(parts.merge(manifest, 1)) == []
    assert names(parts.merge(manifest)) == ["c"]
    assert names(read_lines(tmp_path / "manifest.jsonl")) == ["a", "b", "c"]


def test_of_two_attempts_at_a_block_each_image_comes_out_once(parts, manifest):
    note(parts, 1, "a", "b")
    note(parts, 1, "b", "c")
    assert sorted(names(parts.merge(manifest, 1))) == ["a", "b", "c"]


def test_a_second_attempt_sees_what_the_first_one_noted(parts):
    note(parts, 1, "a")
    note(parts, 11, "x")
    assert names(parts.lines(1)) == ["a"]


def test_a_line_that_was_torn_by_a_crash_does_not_count(tmp_path, manifest):
    parts = Parts(LocalStorage(), str(tmp_path / "out"))
    note(parts, 1, "a", "b")
    (part,) = (tmp_path / "out" / FOLDER).rglob("*.jsonl")
    part.write_bytes(part.read_bytes()[:-20])
    assert names(parts.merge(manifest, 1)) == ["a"]


def test_in_the_end_nothing_is_left(parts, manifest):
    parts.begin()
    note(parts, 1, "a")
    parts.end()
    assert names(parts.merge(manifest)) == []
    assert not parts.can_be_seen()


def test_on_a_disk_the_folder_goes_too(tmp_path):
    parts = Parts(LocalStorage(), str(tmp_path))
    parts.begin()
    parts.end()
    assert list(tmp_path.iterdir()) == []
