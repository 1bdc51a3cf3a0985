"""Files are read again when they change; what cannot be used leaves what was there."""

import logging
import os

import pytest

from cutstream_server.rpc.security.watched import SecurityFileError, WatchedFiles, read_file

VARIABLE = "CUTSTREAM_SOMETHING"


@pytest.fixture
def number(tmp_path):
    """A file that holds a number."""
    path = tmp_path / "number"
    path.write_text("1")
    return path


@pytest.fixture
def watched(number):
    def load():
        text = read_file(VARIABLE, number).decode()
        if not text.isdigit():
            raise SecurityFileError(f"{VARIABLE}={number} is no number: {text}")
        return int(text)

    return WatchedFiles((number,), load)


def test_a_file_that_stays_is_read_once(watched, number):
    assert not watched.refresh()
    assert watched.content == 1


def test_a_file_that_is_written_again_is_read_again(watched, number):
    number.write_text("22")
    assert watched.refresh()
    assert watched.content == 22
    assert not watched.refresh()


def test_a_file_that_is_exchanged_for_one_of_the_same_size_and_time_is_read_again(watched, number, tmp_path):
    before = number.stat()
    (tmp_path / "new").write_text("2")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(number)
    assert watched.refresh()
    assert watched.content == 2


def test_a_link_that_is_turned_is_followed(tmp_path):
    # As Kubernetes exchanges the files of a secret.
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name).write_text(text)
    link = tmp_path / "link"
    link.symlink_to("old")
    watched = WatchedFiles((link,), lambda: int(link.read_text()))
    link.unlink()
    link.symlink_to("new")
    assert watched.refresh()
    assert watched.content == 2


@pytest.mark.parametrize("broken", ["half", None])
def test_what_cannot_be_used_leaves_what_was_there(watched, number, broken):
    if broken is None:
        number.unlink()
    else:
        number.write_text(broken)
    assert not watched.refresh()
    assert watched.content == 1
    number.write_text("3")
    assert watched.refresh()
    assert watched.content == 3


def test_it_is_told_once_with_the_variable(watched, number, caplog):
    number.write_text("half")
    for _ in range(3):
        watched.refresh()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"{VARIABLE}={number} is no number: half; going on with" in caplog.text


def test_another_fault_is_told_too(watched, number, caplog):
    for text in ("half", "more"):
        number.write_text(text)
        watched.refresh()
    assert len(caplog.records) == 2


def test_what_becomes_usable_without_a_change_of_the_file_is_taken(number):
    # A certificate that was not valid yet.
    usable = [True, False, True]

    def load():
        if not usable.pop(0):
            raise SecurityFileError("not yet")
        return len(usable)

    watched = WatchedFiles((number,), load)
    number.write_text("2")
    assert not watched.refresh()
    assert watched.refresh()


def test_at_first_there_is_nothing_to_keep(number):
    def load():
        raise SecurityFileError("broken")

    with pytest.raises(SecurityFileError, match="broken"):
        WatchedFiles((number,), load)


@pytest.mark.parametrize("path", ["missing", "."])
def test_what_cannot_be_read_is_one_line_with_the_variable(tmp_path, path):
    with pytest.raises(SecurityFileError, match=rf"^{VARIABLE}={tmp_path / path}: (No such file|Is a directory)"):
        read_file(VARIABLE, tmp_path / path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_private_file_that_every_user_may_open_is_warned_of(number, caplog, mode, warned):
    number.chmod(mode)
    read_file(VARIABLE, number, private=True)
    assert ("open to every user" in caplog.text) is warned


def test_a_public_file_may_be_open(number, caplog):
    number.chmod(0o644)
    read_file(VARIABLE, number)
    assert caplog.text == ""
