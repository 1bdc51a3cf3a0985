"""The client's wheel alone in an empty environment: what it holds, brings along, weighs, and does.

pip takes the wheel's build backend and dependencies from the package index, as the set-up of this repository does.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import ROOT, running_server

pytestmark = pytest.mark.timeout(900)

CLIENT = ROOT / "client"
MOST_BYTES = 25_000_000
# Of a new environment, or not counted.
NOT_COUNTED = {"pip", "setuptools", "grpcio", "protobuf"}
# What pip says about packages that every index has.
NO_INDEX = "(from versions: none)"
SIZES = """
import importlib.metadata, json, os
sizes = {
    distribution.metadata["Name"].lower(): sum(
        os.path.getsize(path) for path in map(distribution.locate_file, distribution.files) if os.path.exists(path)
    )
    for distribution in importlib.metadata.distributions()
}
print(json.dumps(sizes))
"""


def pip(python, *arguments):
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode and NO_INDEX in result.stdout + result.stderr:
        pytest.skip("pip reaches no package index: the wheel's build backend and dependencies come from there")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(CLIENT))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of the programs of an environment that has nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip(str(folder / "bin" / "python"), "install", str(wheel))
    return folder / "bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def run(installed, server, tmp_path, draw):
    """Runs a program of the environment in a folder with `photo.jpg`: a disc."""
    y, x = np.mgrid[:200, :300]
    with Image.open(io.BytesIO(draw(np.hypot(x - 150, y - 100) < 60))) as picture:
        picture.save(tmp_path / "photo.jpg", quality=95)
    environment = {**os.environ, "CUTSTREAM_TARGET": server.target}
    environment.pop("PYTHONPATH", None)

    def call(program, *arguments):
        command = [installed / program, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=120)

    return call


def test_the_wheel_holds_the_package_as_it_lies_in_the_tree_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = CLIENT / "cutstream"
    lying = {path.relative_to(CLIENT).as_posix() for path in package.rglob("*") if path.is_file()}
    assert held == {name for name in lying if "__pycache__" not in name}
    assert {Path(name).suffix for name in held} == {".py", ".pyi", ".typed", ".html", ".css", ".js"}


@pytest.mark.parametrize(
    "name", ["py.typed", "v1/cutstream_pb2.pyi", "v1/cutstream_pb2_grpc.pyi", "bulk/report.html", "bulk/report.js",
             "bulk/report.css"],
)  # fmt: skip
def test_the_wheel_holds_what_is_no_code(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        assert f"cutstream/{name}" in archive.namelist()


def test_nothing_heavy_comes_along(run):
    brought = json.loads(run("python", "-c", SIZES).stdout)
    assert not brought.keys() & {"torch", "opencv-python", "opencv-python-headless", "numpy", "pillow", "scipy"}
    for module in ("torch", "cv2", "numpy", "PIL"):
        assert b"No module named" in run("python", "-c", f"import {module}").stderr


def test_it_takes_under_25_mb_besides_grpcio_and_protobuf(run):
    sizes = json.loads(run("python", "-c", SIZES).stdout)
    assert {"cutstream", *NOT_COUNTED} <= sizes.keys()
    counted = {name: size for name, size in sizes.items() if name not in NOT_COUNTED}
    assert sum(counted.values()) < MOST_BYTES, counted


def test_the_command_says_what_it_can(run):
    result = run("cutstream", "--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in (b"remove", b"bulk", b"info"))


def test_remove_works(run, tmp_path):
    result = run("cutstream", "remove", "photo.jpg", "-o", "out.png")
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "out.png") as cutout:
        alpha = np.asarray(cutout)[..., 3]
    # The part of the disc above the threshold fills 1 / 1.2 of the frame's side.
    assert np.mean(alpha > 0.8 * 255) == pytest.approx(np.pi / 4 / 1.2**2, abs=0.02)


def test_bulk_works(run, tmp_path):
    assert run("cutstream", "bulk", ".", "out").returncode == 0
    assert (tmp_path / "out" / "photo.png").exists()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ((".", "out", "--report", "out/report.html"), b"install pillow"),
        (("s3://bucket/photos", "out"), b"pip install fsspec"),
    ],
)
def test_what_needs_more_says_how_to_get_it_before_anything_is_done(run, tmp_path, arguments, extra):
    result = run("cutstream", "bulk", *arguments)
    assert result.returncode == 2
    assert extra in result.stderr
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_pixels_need_pillow_and_say_so(run, server):
    program = f"import cutstream\nwith cutstream.Client({server.target!r}) as c: c.remove('photo.jpg').image"
    assert b"ImportError: images and arrays need Pillow and numpy" in run("python", "-c", program).stderr
