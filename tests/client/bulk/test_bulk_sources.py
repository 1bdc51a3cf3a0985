"""What SRC means, and what is refused before the run."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cutstream.bulk.sources import Filter, Plan, SourceError, list_sources
from cutstream.bulk.storage import LocalStorage, open_storage

EVERYTHING = Filter([], [])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cat.jpg", "photos/a/dog.PNG", "photos/a/notes.txt", "photos/b/owl.raw"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def plan(source, *, base=None, wanted=EVERYTHING, out="out"):
    return Plan(list_sources(str(source), base, wanted, open_storage(str(out))), ".png", lambda count: None)


def relatives(*arguments, **keywords):
    with plan(*arguments, **keywords) as jobs:
        return sorted(job.relative for job in jobs)


def a_list(*entries):
    path = Path("list.txt")
    path.write_text("\n".join(map(str, entries)))
    return path


def test_of_a_folder_everything_with_an_images_suffix_is_meant(photos):
    assert relatives(photos) == ["a/dog.PNG", "cat.jpg"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.raw"], [], ["b/owl.raw"]),
        (["*.raw", "*.jpg"], [], ["b/owl.raw", "cat.jpg"]),
        (["a/*"], [], ["a/dog.PNG", "a/notes.txt"]),
        ([], ["a/*"], ["cat.jpg"]),
        (["*"], ["*.txt", "c?t.*"], ["a/dog.PNG", "b/owl.raw"]),
    ],
)
def test_patterns_choose(photos, include, exclude, expected):
    assert relatives(photos, wanted=Filter(include, exclude)) == expected


def test_cutouts_of_an_out_inside_src_are_no_sources(photos):
    (photos / "out").mkdir()
    (photos / "out" / "cat.png").touch()
    assert relatives(photos, out=photos / "out") == ["a/dog.PNG", "cat.jpg"]


@pytest.mark.parametrize("out", ["photos", "."])
def test_an_out_that_holds_the_images_is_refused(photos, out):
    with pytest.raises(SourceError, match="could overwrite"):
        relatives(photos, out=out)


def test_an_out_that_is_a_link_to_the_images_is_refused(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(SourceError, match="could overwrite"):
        relatives(photos, out=tmp_path / "link")


def test_a_list_is_relative_to_the_current_folder(photos):
    assert relatives(a_list("photos/cat.jpg", "", "./photos/b/../b/owl.raw")) == ["photos/b/owl.raw", "photos/cat.jpg"]


def test_a_list_is_relative_to_base(photos):
    assert relatives(a_list("cat.jpg", photos / "a/dog.PNG"), base="photos") == ["a/dog.PNG", "cat.jpg"]


def test_jobs_say_where_to_read_and_where_to_write(photos):
    with plan(a_list("a/dog.PNG"), base="photos") as jobs:
        (job,) = jobs
    assert (job.path, job.output) == (str(photos / "a" / "dog.PNG"), "a/dog.png")


def test_a_list_comes_on_standard_input(photos, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"photos/cat.jpg\r\nphotos/caf\xe9.jpg\n")))
    assert relatives("-") == [b"photos/caf\xe9.jpg".decode("utf-8", "surrogateescape"), "photos/cat.jpg"]


@pytest.mark.parametrize("entry", ["../secret.jpg", "/etc/secret.jpg", "photos/../../x.jpg", ".", "s3://bucket/x.jpg"])
def test_an_entry_outside_base_is_refused(photos, entry):
    with pytest.raises(SourceError, match=r"line 2 of the list, .* does not lie below"):
        relatives(a_list("photos/cat.jpg", entry))


def test_an_entry_in_out_is_refused(photos):
    with pytest.raises(SourceError, match="lies in OUT"):
        relatives(a_list("out/cat.jpg"), base="photos", out="photos/out")


def test_what_is_listed_twice_is_one_job(photos):
    with plan(a_list("photos/cat.jpg", "photos/a/../cat.jpg")) as jobs:
        assert (len(jobs), jobs.duplicates) == (1, 1)


def test_a_name_with_line_ends_is_one_job(photos):
    (photos / "two\nlines\r.jpg").touch()
    assert "two\nlines\r.jpg" in relatives(photos)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "cannot read missing: No such file"),
        ("photos/cat.jpg", "takes single images"),
        ("binary", "is no path"),
    ],
)
def test_a_src_that_is_none_is_refused(photos, source, message):
    Path("binary").write_bytes(b"\x7fELF\0\0")
    with pytest.raises(SourceError, match=message):
        relatives(source)


def test_base_is_for_lists_only(photos):
    with pytest.raises(SourceError, match="--base belongs to lists"):
        relatives(photos, base=".")


def test_a_list_is_read_line_by_line(photos, monkeypatch):
    path = a_list("photos/cat.jpg", "photos/a/dog.PNG")
    monkeypatch.setattr(LocalStorage, "read", None)
    assert relatives(path) == ["photos/a/dog.PNG", "photos/cat.jpg"]


def test_a_disk_without_room_for_the_list_is_said(photos, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: Path("/dev/full").open("w+"))  # noqa: SIM115
    with pytest.raises(SourceError, match="No space left on device; TMPDIR"):
        plan(photos)


def test_no_folder_for_temporary_files_is_said(photos, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(photos / "missing"))
    with pytest.raises(SourceError, match="No such file or directory; TMPDIR"):
        plan(photos)


def test_a_plan_can_be_read_again(photos):
    with plan(photos) as jobs:
        assert list(jobs) == list(jobs)
        assert len(jobs) == 2
