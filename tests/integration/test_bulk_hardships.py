"""`cutstream bulk` on real files that are broken, gone or closed, and on a disk that is full; nothing is simulated."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from bulk_command import manifest, start_bulk, wait_for_lines
from PIL import Image
from running import running_server

PATIENCE_SECONDS = 180
# Root may read what is closed to everyone, except without these.
LIKE_A_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
# Becomes the root of a name space of its own, which may mount; $0 is where, $1 how much, $2 where the files are kept.
ON_A_SMALL_DISK = (
    'mount -t tmpfs -o "size=$1" small "$0" || exit 99; keep=$2; cd "$0/.."; shift 2; "$@"; code=$?; '
    'cp -r "$0/." "$keep"; exit $code'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def log(folder):
    return (folder / "bulk.log").read_text()


def errors(out):
    return {Path(line["input"]).name: line["reason"] for line in manifest(out) if line["status"] == "error"}


def test_one_broken_file_among_500_costs_one_error_line(server, photos, tmp_path):
    folder, out = photos(500), tmp_path / "out"
    (folder / "3" / "173.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert start_bulk(server, folder, out, folder=tmp_path).wait(PATIENCE_SECONDS) == 1
    assert Counter(line["status"] for line in manifest(out)) == {"ok": 499, "error": 1}
    assert errors(out) == {"173.png": "IMAGE_UNDECODABLE"}
    assert len(list(out.rglob("*.png"))) == 499
    assert "499 ok, 1 failed, of 500 images" in log(tmp_path)


def test_files_that_vanish_during_the_run_are_errors_and_the_rest_is_done(server, photos, tmp_path):
    folder, out = photos(200), tmp_path / "out"
    paths = sorted(folder.rglob("*.png"))
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    run = start_bulk(server, "list.txt", out, folder=tmp_path)
    wait_for_lines(out, 20, run)
    for path in paths[-10:]:
        path.unlink()
    assert run.wait(PATIENCE_SECONDS) == 1
    assert errors(out) == {path.name: "SOURCE_UNREADABLE" for path in paths[-10:]}
    assert Counter(line["status"] for line in manifest(out)) == {"ok": 190, "error": 10}
    assert all("No such file" in line["message"] for line in manifest(out) if line["status"] == "error")


@pytest.fixture
def like_a_user(tmp_path):
    """A prefix behind which a command is refused what is closed to its user, also when that is root."""
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    for prefix in ((), LIKE_A_USER):
        tried = subprocess.run([*prefix, "cat", closed], check=False, capture_output=True, text=True)
        if "cat:" in tried.stderr:
            return prefix
    pytest.skip(f"root reads closed files here: {tried.stderr}")


def test_a_closed_folder_is_said_and_the_others_are_done(server, photos, tmp_path, like_a_user):
    folder, out = photos(120), tmp_path / "out"
    (folder / "1").chmod(0)
    try:
        run = start_bulk(server, folder, out, folder=tmp_path, prefix=like_a_user)
        assert run.wait(PATIENCE_SECONDS) == 1
    finally:
        (folder / "1").chmod(0o755)
    assert f"error: cannot list the folder {folder / '1'}: [Errno 13] Permission denied" in log(tmp_path)
    assert Counter(Path(line["input"]).parent.name for line in manifest(out)) == {"0": 50, "2": 20}
    assert errors(out) == {}


def test_a_closed_file_is_one_error_line(server, photos, tmp_path, like_a_user):
    folder, out = photos(30), tmp_path / "out"
    (folder / "0" / "007.png").chmod(0)
    assert start_bulk(server, folder, out, folder=tmp_path, prefix=like_a_user).wait(PATIENCE_SECONDS) == 1
    assert errors(out) == {"007.png": "SOURCE_UNREADABLE"}
    assert len(manifest(out)) == 30


def test_an_out_that_may_not_be_written_is_refused_before_anything_is_done(server, photos, tmp_path, like_a_user):
    folder = photos(3)
    (tmp_path / "out").mkdir(mode=0o500)
    run = start_bulk(server, folder, "out/new", folder=tmp_path, prefix=like_a_user)
    assert run.wait(PATIENCE_SECONDS) == 2
    assert "Permission denied" in log(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A prefix behind which `out` is a disk of 256 KiB; what it holds at the end is kept in `kept`."""
    for name in ("out", "kept"):
        (tmp_path / name).mkdir()
    as_root = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK)
    prefix = (*as_root, str(tmp_path / "out"), "256k", str(tmp_path / "kept"))
    tried = subprocess.run([*prefix, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this user may not mount a small disk here: {tried.stderr}")
    return prefix


def test_a_full_disk_ends_the_run_with_its_finished_work_kept_and_the_rest_is_done_later(
    server, photos, tmp_path, small_disk
):
    folder, out, kept = photos(120), tmp_path / "out", tmp_path / "kept"
    assert start_bulk(server, folder, out, folder=tmp_path, prefix=small_disk).wait(PATIENCE_SECONDS) == 1
    assert "No space left on device" in log(tmp_path)
    assert "the same command with --resume does them" in log(tmp_path)
    done = manifest(kept)
    assert 0 < len(done) < 120
    for line in done:
        assert (line["status"], (kept / line["output"]).stat().st_size) == ("ok", line["output_bytes"])
    assert not list(kept.rglob("*.part"))

    shutil.copytree(kept, out, dirs_exist_ok=True)
    assert start_bulk(server, folder, out, "--resume", folder=tmp_path).wait(PATIENCE_SECONDS) == 0
    assert Counter(line["input"] for line in manifest(out)) == Counter(str(path) for path in folder.rglob("*.png"))
    for line in manifest(out):
        with Image.open(out / line["output"]) as cutout:
            cutout.load()
    assert f"{len(done)} done before" in log(tmp_path)
