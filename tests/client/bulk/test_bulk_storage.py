"""Local files and fsspec's look the same."""

from __future__ import annotations

import errno
import os
import sys
import uuid
from pathlib import Path

import pytest

from cutstream.bulk.storage import LocalStorage, RemoteStorage, StorageError, open_storage


def never(path, error):
    raise AssertionError(f"{path}: {error}")


@pytest.fixture(params=["local", "memory", "rename"])
def place(request, tmp_path):
    """A storage and an empty folder in it; "rename": fsspec without replacing objects as a whole."""
    if request.param == "local":
        return LocalStorage(), str(tmp_path)
    storage, folder = open_storage(f"memory://{uuid.uuid4()}")
    if request.param == "rename":
        storage = RemoteStorage(storage._fs, "sftp")
    return storage, folder


def test_what_is_written_is_read_again_and_its_folders_are_made(place):
    storage, folder = place
    path = storage.join(folder, "a/b/cat.png")
    storage.write(path, b"one")
    storage.write(path, b"other")
    assert storage.read(path) == b"other"
    assert storage.facts(path).size == 5
    assert sorted(storage.walk(folder, never)) == ["a/b/cat.png"]


def test_all_files_below_a_folder_are_found(place):
    storage, folder = place
    for name in ("cat.jpg", "a/dog.jpg", "a/b/owl.jpg"):
        storage.write(storage.join(folder, name), b"x")
    assert sorted(storage.walk(folder, never)) == ["a/b/owl.jpg", "a/dog.jpg", "cat.jpg"]


def test_a_file_that_is_not_there_has_no_facts_and_cannot_be_read(place):
    storage, folder = place
    path = storage.join(folder, "cat.jpg")
    assert storage.facts(path) is None
    with pytest.raises(FileNotFoundError):
        storage.read(path)


def test_a_changed_file_has_other_facts(place):
    storage, folder = place
    path = storage.join(folder, "cat.jpg")
    storage.write(path, b"one")
    before = storage.facts(path)
    if isinstance(storage, LocalStorage):
        os.utime(path, ns=(0, 1))
    else:
        storage.write(path, b"two")
    assert storage.facts(path) != before


def test_folders_are_told_from_files(place):
    storage, folder = place
    storage.write(storage.join(folder, "a/cat.jpg"), b"x")
    assert storage.is_folder(storage.join(folder, "a"))
    assert not storage.is_folder(storage.join(folder, "a/cat.jpg"))
    assert not storage.is_folder(storage.join(folder, "b"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "cat.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        LocalStorage().write(str(tmp_path / "cat.png"), b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cat.png": b"old"}


def test_links_to_folders_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cat.jpg").touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a" / "cat.jpg")
    assert sorted(LocalStorage().walk(str(tmp_path), never)) == ["a/cat.jpg", "b.jpg"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_listed(tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").touch()
    scandir, told = os.scandir, []

    def guarded(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = list(LocalStorage().walk(str(tmp_path), lambda path, error: told.append((path, error.strerror))))
    assert found == ["open/cat.jpg"]
    assert told == [(str(tmp_path / "closed"), "Permission denied")]


def test_a_drivers_own_exception_is_an_os_error():
    class Driver:
        def cat_file(self, path):
            raise KeyError("no such bucket")

    with pytest.raises(OSError, match="KeyError: 'no such bucket'"):
        RemoteStorage(Driver(), "s3").read("bucket/cat.jpg")


def test_a_missing_object_is_said_to_be_missing():
    storage, path = open_storage(f"memory://{uuid.uuid4()}/cat.jpg")
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        storage.read(path)


@pytest.mark.parametrize("protocol", ["memory", "sftp"])
def test_a_file_goes_to_a_store_and_comes_back_in_parts(tmp_path, monkeypatch, protocol):
    storage, folder = open_storage(f"memory://{uuid.uuid4()}")
    storage = RemoteStorage(storage._fs, protocol)
    (tmp_path / "here").write_bytes(b"a\nb\n")
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(RemoteStorage, "read", None)
    storage.upload(tmp_path / "here", f"{folder}/there")
    storage.download(f"{folder}/there", tmp_path / "back")
    monkeypatch.undo()
    assert (tmp_path / "back").read_bytes() == b"a\nb\n"
    assert sorted(storage.walk(folder, never)) == ["there"]


def test_a_download_that_breaks_leaves_the_file_as_it_was(tmp_path):
    class Driver:
        def get_file(self, path, target):
            Path(target).write_bytes(b"hal")
            raise OSError(errno.ECONNRESET, "Connection reset by peer")

    (tmp_path / "file").write_bytes(b"whole")
    with pytest.raises(OSError, match="reset"):
        RemoteStorage(Driver(), "s3").download("bucket/file", tmp_path / "file")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"whole"}


def test_a_file_url_is_a_path(tmp_path):
    storage, path = open_storage(f"file://{tmp_path}")
    assert isinstance(storage, LocalStorage)
    assert path == str(tmp_path)


def test_names_are_whole_addresses():
    storage, path = open_storage("memory://bucket/cat.jpg")
    assert storage.name(path) == "memory:///bucket/cat.jpg"


def test_an_unknown_protocol_is_said():
    with pytest.raises(StorageError, match="nowhere"):
        open_storage("nowhere://bucket")


def test_without_fsspec_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(StorageError, match="pip install fsspec"):
        open_storage("s3://bucket")
