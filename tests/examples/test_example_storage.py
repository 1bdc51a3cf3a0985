"""From URL to URL in one process; the manifest tells what to look at."""

import json
import sys
import uuid

import fsspec
import numpy as np
import pytest
from examples import object_storage
from PIL import Image


@pytest.fixture(params=["memory", "file"])
def bucket(request, tmp_path):
    """An address with nothing below it."""
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else f"file://{tmp_path}"


def put(address, data):
    filesystem, path = fsspec.url_to_fs(address)
    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(path, data)


def run(bucket, server, monkeypatch):
    """Runs the program; its exit code."""
    arguments = [f"{bucket}/photos", f"{bucket}/cutouts", "--target", server.target]
    monkeypatch.setattr(sys, "argv", ["object_storage", *arguments])
    with pytest.raises(SystemExit) as ended:
        object_storage.main()
    return ended.value.code


def manifest(bucket):
    with fsspec.open(f"{bucket}/cutouts/manifest.jsonl", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(autouse=True)
def journal_here(tmp_path, monkeypatch):
    """The command keeps the manifest of a run to a URL in the current folder."""
    monkeypatch.chdir(tmp_path)


def test_every_image_below_the_address_gets_its_cutout_at_the_other(bucket, server, square, monkeypatch):
    for name in ("cat.png", "a/dog.png", "a/b/owl.png"):
        put(f"{bucket}/photos/{name}", square(64 + len(name)))
    assert run(bucket, server, monkeypatch) == 0
    assert sorted(line["output"] for line in manifest(bucket)) == ["a/b/owl.png", "a/dog.png", "cat.png"]
    for line in manifest(bucket):
        with fsspec.open(f"{bucket}/cutouts/{line['output']}") as file, Image.open(file) as cutout:
            assert (cutout.size, cutout.mode) == ((518, 518), "RGBA")


def test_what_should_be_looked_at_is_listed(bucket, server, square, draw, monkeypatch, capsys):
    to_the_border = np.zeros((64, 64))
    to_the_border[16:48, :40] = 1
    dot = np.zeros((64, 64))
    dot[30:34, 30:34] = 1
    put(f"{bucket}/photos/good.png", square(64))
    put(f"{bucket}/photos/broken.png", b"no image")
    put(f"{bucket}/photos/border.png", draw(to_the_border))
    put(f"{bucket}/photos/dot.png", draw(dot))
    assert run(bucket, server, monkeypatch) == 1
    listed = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert {address.rpartition("/")[2]: why for address, why in listed.items()} == {
        "broken.png": "UNSUPPORTED_FORMAT",
        "border.png": "the object reaches over the border of the image",
        "dot.png": "object too_small",
    }


def test_a_second_run_does_what_is_new(bucket, server, square, monkeypatch, capsys):
    put(f"{bucket}/photos/cat.png", square(64))
    run(bucket, server, monkeypatch)
    put(f"{bucket}/photos/dog.png", square(80))
    assert run(bucket, server, monkeypatch) == 0
    assert "1 ok, 0 failed, 1 done before, of 2 images" in capsys.readouterr().err
    assert len(manifest(bucket)) == 2


def test_an_address_that_is_not_there_is_wrong_usage(bucket, server, monkeypatch, capsys):
    assert run(bucket, server, monkeypatch) == 2
    assert "/photos" in capsys.readouterr().err
