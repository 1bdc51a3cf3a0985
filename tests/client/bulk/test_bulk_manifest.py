"""The manifest is valid after a crash at any byte, and says what is done."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutstream.bulk.manifest import Manifest, OtherSourceError, State, compact, options_hash, read_done, read_lines
from cutstream.bulk.storage import FileFacts

FACTS = FileFacts(10, 123)


def line(name: str, **changes: object) -> dict[str, object]:
    output = Path(name).name + ".png"
    fields = {"input": name, "output": output, "status": "ok", "size": 10, "mtime": 123, "options": "abc"}
    return {**fields, "output_bytes": 99, **changes}


def write(path, *lines, keep=False):
    with Manifest(path, keep=keep) as manifest:
        for one in lines:
            manifest.append(one)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "manifest.jsonl"


def test_each_line_is_one_object_in_order(path):
    write(path, line("a"), line("b"))
    assert [json.loads(text) for text in path.read_text().splitlines()] == [line("a"), line("b")]


def test_a_line_is_on_its_way_to_the_disk_when_append_returns(path):
    with Manifest(path, keep=False) as manifest:
        manifest.append(line("a"))
        assert path.read_bytes().endswith(b"}\n")


@given(cut=st.integers(0, 400))
def test_after_a_crash_at_any_byte_the_whole_lines_are_kept(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("crash") / "manifest.jsonl"
    write(path, line("a"), line("b"))
    torn = path.read_bytes()[:cut]
    path.write_bytes(torn)
    write(path, line("c"), keep=True)
    assert [entry["input"] for entry in read_lines(path)] == [*["a", "b"][: torn.count(b"\n")], "c"]


def test_a_torn_line_longer_than_a_page_is_taken_off(path):
    write(path, line("a"))
    path.write_bytes(path.read_bytes() + b"x" * 200_000)
    write(path, keep=True)
    assert list(read_lines(path)) == [line("a")]


def test_without_keep_it_begins_again(path):
    write(path, line("a"))
    write(path, line("b"))
    assert list(read_lines(path)) == [line("b")]


def test_names_that_are_no_utf_8_survive(path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write(path, line(name), line("猫.jpg"))
    assert [entry["input"] for entry in read_lines(path)] == [name, "猫.jpg"]
    assert "猫.jpg" in path.read_text()


def test_a_line_that_the_full_disk_took_in_part_is_taken_back(path):
    class FullFile:
        """Takes ten bytes more, then nothing."""

        def __init__(self, file):
            self._file, self._room = file, 10

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, data):
            if not self._room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written, self._room = self._file.write(data[: self._room]), 0
            return written

    with Manifest(path, keep=False) as manifest:
        manifest.append(line("a"))
        manifest._file = FullFile(manifest._file)
        with pytest.raises(OSError, match="No space left"):
            manifest.append(line("b"))
    assert list(read_lines(path)) == [line("a")]


# What is done


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State(FACTS, "abc", "a.png", 99), True),
        (State(FileFacts(11, 123), "abc", "a.png", 99), False),
        (State(FileFacts(10, 124), "abc", "a.png", 99), False),
        (State(FACTS, "abd", "a.png", 99), False),
        (State(FACTS, "abc", "a.jpg.png", 99), False),
        (State(FACTS, "abc", "a.png", 98), False),
        (State(FACTS, "abc", None, None, "error"), False),
    ],
)
def test_an_image_is_done_if_size_time_options_and_output_are_the_same(path, state, expected):
    write(path, line("/photos/a"))
    assert read_done(path, "/photos").says("/photos/a", state) == expected


def test_a_failed_image_is_known_as_failed(path):
    write(path, line("/photos/a", status="error", output=None))
    assert read_done(path, "/photos").says("/photos/a", State(FACTS, "abc", None, None, "error"))


def test_the_last_line_of_an_image_counts(path):
    write(path, line("/photos/a"), line("/photos/a", options="new"))
    done = read_done(path, "/photos")
    assert not done.says("/photos/a", State(FACTS, "abc", "a.png", 99))
    assert done.says("/photos/a", State(FACTS, "new", "a.png", 99))
    assert done.needs_compacting


def test_images_without_a_line_are_not_known(path):
    write(path, line("/photos/a"))
    done = read_done(path, "/photos")
    assert (done.knows("/photos/a"), done.knows("/photos/b"), len(done)) == (True, False, 1)


def test_a_damaged_line_is_passed_over(path):
    write(path, line("/photos/a"))
    path.write_bytes(b"\0\0\0\n" + path.read_bytes())
    done = read_done(path, "/photos")
    assert (done.knows("/photos/a"), done.needs_compacting) == (True, True)


def test_compacting_keeps_the_last_line_of_each_image(path):
    write(path, line("a"), line("b"), line("a", options="new"))
    path.write_bytes(b"damaged\n" + path.read_bytes())
    compact(path)
    assert list(read_lines(path)) == [line("b"), line("a", options="new")]
    assert [file.name for file in path.parent.iterdir()] == ["manifest.jsonl"]


def test_the_hash_tells_options_apart_but_not_their_order():
    first = options_hash({"preset": "trellis", "mask_threshold": 0.5})
    assert first == options_hash({"mask_threshold": 0.5, "preset": "trellis"})
    assert first != options_hash({"preset": "trellis", "mask_threshold": 0.6})


@pytest.mark.parametrize("name", ["/other/a", "/photos2/a", "s3://photos/a"])
def test_images_of_another_source_are_told(path, name):
    write(path, line("/photos/a"), line(name))
    with pytest.raises(OtherSourceError, match=name):
        read_done(path, "/photos")


def test_a_manifest_that_is_being_written_cannot_be_opened_by_another_run(path):
    with Manifest(path, keep=False), pytest.raises(OSError, match="another run"):
        Manifest(path, keep=True)
    Manifest(path, keep=True).__exit__(None, None, None)
