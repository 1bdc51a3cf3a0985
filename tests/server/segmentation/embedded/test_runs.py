import os
import subprocess
import sys
import time

import pytest

from cutstream_server.segmentation.embedded import runs
from cutstream_server.segmentation.embedded.runs import RUN_VARIABLE, Run, RunError, open_run, remove_dead_runs


def lose(run):
    """Does what the kernel does when the run's server dies."""
    run.lock.close()


def region_of(run):
    region = runs.SHARED_MEMORY / f"{run.region_prefix}test"
    region.write_bytes(b"remains")
    return region


def start_process_of(run):
    """A process that carries the run's mark, in a session of its own as Triton's are."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, env=os.environ | {RUN_VARIABLE: run.name}, start_new_session=True)


def test_a_dead_run_is_removed_with_its_regions_and_its_folder(own_root, remains):
    run = open_run()
    region_of(run)
    lose(run)
    assert remove_dead_runs() == [run.name]
    assert remains(run) == []


def test_a_living_run_keeps_everything(own_root):
    run = open_run()
    region = region_of(run)
    assert remove_dead_runs() == []
    assert region.exists()
    assert run.folder.exists()
    run.remove()


def test_foreign_regions_stay(own_root, foreign_region):
    run = open_run()
    lose(run)
    remove_dead_runs()
    assert foreign_region.exists()


def test_a_run_finds_its_processes_and_no_others(own_root):
    mine, other = open_run(), open_run()
    process, stranger = start_process_of(mine), start_process_of(other)
    assert mine.processes() == [process.pid]
    for run in (mine, other):
        run.remove()
    assert process.wait() != 0
    assert stranger.wait() != 0


def test_the_processes_of_a_dead_run_are_killed(own_root):
    run = open_run()
    process = start_process_of(run)
    lose(run)
    remove_dead_runs()
    assert process.wait(timeout=20) == -9


def test_a_run_can_be_removed_twice(own_root, remains):
    run = open_run()
    run.remove()
    run.remove()
    assert remains(run) == []


def test_an_empty_scratch_folder_that_appeared_is_removed_and_others_stay(own_root, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_SCRATCH_PARENT", tmp_path)
    run = open_run()
    earlier = tmp_path / "python_env_earlier"
    earlier.mkdir()
    before = runs.scratch_folders()
    empty, full = tmp_path / "python_env_empty", tmp_path / "python_env_full"
    empty.mkdir()
    full.mkdir()
    (full / "file").touch()
    run.note_scratch(before)
    run.remove()
    assert sorted(path.name for path in tmp_path.glob("python_env_*")) == ["python_env_earlier", "python_env_full"]


def test_the_log_outlives_the_run(own_root):
    run = open_run()
    run.log.write_text("what happened")
    run.remove()
    assert run.log.read_text() == "what happened"


def test_only_the_newest_logs_are_kept(own_root):
    for number in range(14):
        log = own_root / f"{number:012x}.log"
        log.touch()
        os.utime(log, (number, number))
    remove_dead_runs()
    kept = sorted(int(log.stem, 16) for log in own_root.glob("*.log"))
    assert kept == list(range(4, 14))


def test_the_log_of_a_living_run_is_kept_however_old(own_root):
    run = open_run()
    run.log.touch()
    os.utime(run.log, (0, 0))
    for number in range(14):
        (own_root / f"{number:012x}.log").touch()
    remove_dead_runs()
    assert run.log.exists()
    run.remove()


def test_the_root_belongs_to_this_user_alone(own_root):
    assert own_root.stat().st_mode & 0o777 == 0o700


def test_a_root_that_others_can_enter_is_refused(own_root):
    own_root.chmod(0o755)
    with pytest.raises(RunError, match="only this user"):
        open_run()


def test_a_root_that_is_a_link_is_refused(own_root, tmp_path):
    own_root.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own_root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError):
        open_run()


def test_processes_that_do_not_die_are_an_error(own_root, monkeypatch):
    run = open_run()
    monkeypatch.setattr(runs, "_KILL_SECONDS", 0.05)
    monkeypatch.setattr(Run, "processes", lambda self: [time.time_ns()])
    monkeypatch.setattr(runs.os, "kill", lambda process, number: None)
    with pytest.raises(RunError, match="do not die"):
        run.remove()
    run.lock.close()
