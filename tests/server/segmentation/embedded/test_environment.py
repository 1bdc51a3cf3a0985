import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cutstream_server.segmentation.embedded import environment as environment_module
from cutstream_server.segmentation.embedded.environment import (
    TritonEnvironment,
    TritonEnvironmentError,
    make_environment,
    open_environment,
)
from cutstream_server.triton_cli import app


class Installer:
    """Stands in for venv, pip and the programs: makes the files that they would, and counts its calls."""

    def __init__(self, folder):
        self.folder = folder
        self.commands = []
        self.failing = ""

    def __call__(self, command, **_):
        self.commands.append(command)
        if self.failing and self.failing in command:
            return subprocess.CompletedProcess(command, 2, "no matching distribution")
        if "venv" in command:
            (self.folder / "bin").mkdir(parents=True)
            (self.folder / "pyvenv.cfg").touch()
        if "pip" in command:
            self._unpack()
        program = not command[0].endswith("python") and "venv" not in command
        return subprocess.CompletedProcess(command, 1 if program else 0, "")

    def _unpack(self):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        wheel = TritonEnvironment(self.folder)._wheel
        for name in (
            f"python_backend_stubs/{version}/triton_python_backend_stub",
            "backends/python/libtriton_python.so",
            "backends/python/triton_python_backend_utils.py",
        ):
            (wheel / name).parent.mkdir(parents=True, exist_ok=True)
            (wheel / name).write_text(name)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "triton"


@pytest.fixture
def installer(folder, monkeypatch):
    installer = Installer(folder)
    monkeypatch.setattr(environment_module.subprocess, "run", installer)
    return installer


@pytest.fixture
def said():
    return []


def make(folder, said, **options):
    return make_environment(folder, say=said.append, **options)


def test_it_is_made_of_the_files_whose_hashes_are_known_and_opens(folder, installer, said):
    make(folder, said)
    install = next(command for command in installer.commands if "pip" in command)
    assert install[-3:-1] == ["--require-hashes", "-r"]
    assert set(re.findall(r"^\S+==\S+", Path(install[-1]).read_text(), re.MULTILINE)) == set(environment_module.PINS)
    assert open_environment(folder).folder == folder


def test_its_backend_is_made_of_files_and_not_of_links(folder, installer, said):
    backend = make(folder, said).python_backend
    assert sorted(file.name for file in backend.iterdir() if not file.is_symlink()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]


def test_the_second_time_there_is_nothing_to_do(folder, installer, said):
    make(folder, said)
    installer.commands.clear()
    make(folder, said)
    assert installer.commands == []
    assert said[-1] == f"the embedded Triton is ready in {folder}"


def test_force_makes_it_again(folder, installer, said):
    make(folder, said)
    installer.commands.clear()
    make(folder, said, force=True)
    assert any("pip" in command for command in installer.commands)


def test_one_that_is_half_made_does_not_open_and_is_made_again(folder, installer, said):
    installer.failing = "pip"
    with pytest.raises(TritonEnvironmentError, match="could not be installed"):
        make(folder, said)
    with pytest.raises(TritonEnvironmentError, match="triton setup"):
        open_environment(folder)
    installer.failing = ""
    make(folder, said)
    assert open_environment(folder).folder == folder


def test_one_with_other_pins_is_out_of_date_and_made_again(folder, installer, said, monkeypatch):
    make(folder, said)
    monkeypatch.setattr(environment_module, "PINS", ("openvino==9999.1",))
    with pytest.raises(TritonEnvironmentError, match="out of date"):
        open_environment(folder)
    make(folder, said)
    assert open_environment(folder).folder == folder


def test_a_missing_one_is_named_with_the_command_that_makes_it(folder):
    with pytest.raises(TritonEnvironmentError, match=r"is missing; run `cutstream-server triton setup`"):
        open_environment(folder)


def test_a_folder_with_something_else_is_left_alone(folder, installer, said):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(TritonEnvironmentError, match="holds something else"):
        make(folder, said)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_another_python_is_refused_with_those_that_work(folder, installer, said, monkeypatch):
    monkeypatch.setattr(environment_module.sys, "version_info", (3, 13, 0))
    with pytest.raises(TritonEnvironmentError, match=r"3\.11, 3\.12"):
        make(folder, said)


def test_a_python_without_a_shared_library_is_refused_with_a_way_out(folder, installer, said, monkeypatch):
    monkeypatch.setattr(environment_module.sysconfig, "get_config_var", lambda name: "/nowhere")
    with pytest.raises(TritonEnvironmentError, match="enable-shared"):
        make(folder, said)


def test_a_program_that_does_not_start_is_shown_with_its_words(folder, installer, said):
    installer.failing = "--help"
    with pytest.raises(TritonEnvironmentError, match=r"tritonserver does not start .*no matching distribution"):
        make(folder, said)


def test_the_command_says_what_is_wrong_and_ends_with_one(folder):
    folder.mkdir()
    (folder / "thesis.txt").touch()
    result = CliRunner().invoke(app, ["setup", "--environment", str(folder)])
    assert result.exit_code == 1
    assert "holds something else" in result.output


def test_the_command_is_instant_when_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(environment_module.subprocess, "run", None)
    result = CliRunner().invoke(app, ["setup"])
    assert result.exit_code == 0
    assert str(Path(sys.prefix) / "triton") in result.output
