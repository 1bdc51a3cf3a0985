import hashlib
import json
import sys

import pytest
from typer.testing import CliRunner

from cutstream_server.model_cli import app
from cutstream_server.segmentation.model_files import ModelFileError, verify_models
from cutstream_server.segmentation.preparation.errors import CheckFailedError, PreparationError
from cutstream_server.segmentation.preparation.record import BuildRecord, write_record
from cutstream_server.segmentation.quantisation import quantise as module
from cutstream_server.segmentation.quantisation.quantise import quantise_model

CONFIG = 'name: "net"\nbackend: "openvino"\ndefault_model_filename: "model.onnx"\nmax_batch_size: 1\n'


class Said:
    """A report that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def report():
    return Said()


@pytest.fixture
def model(tmp_path):
    """A built model, as far as quantising looks at it."""
    model = tmp_path / "net" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"network")
    (tmp_path / "net" / "config.pbtxt").write_text(CONFIG)
    digest = hashlib.sha256(b"network").hexdigest()
    write_record(model, BuildRecord(2, "somewhere", "0" * 64, "MIT", digest, interface={"side": 320}))
    return model


@pytest.fixture
def quantiser(tmp_path, monkeypatch):
    """Puts a program in the quantiser's place that writes its arguments, and tells the differences that are wanted."""

    def replace(differences, status=0):
        worker = tmp_path / "worker.py"
        worker.write_text(
            "import json, pathlib, sys\n"
            "target = pathlib.Path(sys.argv[2])\n"
            "target.write_text(json.dumps(sys.argv[1:]))\n"
            "target.with_suffix('.bin').write_text('weights')\n"
            f"print('so far')\nprint(json.dumps({differences!r}))\nsys.exit({status})\n"
        )
        monkeypatch.setattr(module, "_WORKER", worker)
        monkeypatch.setattr(module, "quantiser_python", lambda report: sys.executable)

    return replace


def test_the_int8_model_stands_beside_the_one_that_it_was_made_from(model, quantiser, report, tmp_path):
    quantiser({"a.png": 0.01})
    assert quantise_model(model, report) == tmp_path / "net_int8" / "1" / "model.xml"
    assert (tmp_path / "net_int8" / "1" / "model.bin").read_text() == "weights"


def test_its_configuration_differs_in_name_and_file(model, quantiser, report, tmp_path):
    quantiser({"a.png": 0.01})
    quantise_model(model, report)
    expected = CONFIG.replace('"net"', '"net_int8"').replace("model.onnx", "model.xml")
    assert (tmp_path / "net_int8" / "config.pbtxt").read_text() == expected


def test_the_quantiser_is_told_the_networks_side_and_the_photos(model, quantiser, report, tmp_path):
    quantiser({"a.png": 0.01})
    target = quantise_model(model, report, photos=tmp_path)
    source, _, side, photos = json.loads(target.read_text())
    assert (source, side, photos) == (str(model), "320", str(tmp_path))


def test_what_was_made_is_verified_at_the_servers_start(model, quantiser, report, tmp_path):
    quantiser({"a.png": 0.01})
    target = quantise_model(model, report)
    verify_models([tmp_path], ["net_int8"])
    target.with_suffix(".bin").write_text("damaged")
    with pytest.raises(ModelFileError, match=r"model\.bin is not the file that was built"):
        verify_models([tmp_path], ["net_int8"])


def test_a_second_time_nothing_is_done(model, quantiser, report):
    quantiser({"a.png": 0.01})
    target = quantise_model(model, report)
    quantiser({}, status=1)
    assert quantise_model(model, report) == target
    assert "up to date" in report.lines[-1]


def test_another_source_network_is_quantised_again(model, quantiser, report):
    quantiser({"a.png": 0.01})
    quantise_model(model, report)
    digest = hashlib.sha256(b"network").hexdigest()
    write_record(model, BuildRecord(2, "elsewhere", "1" * 64, "MIT", digest[::-1], interface={"side": 320}))
    quantiser({}, status=1)
    with pytest.raises(PreparationError, match="status 1"):
        quantise_model(model, report)


def test_masks_that_differ_by_too_much_put_nothing_in_place(model, quantiser, report, tmp_path):
    quantiser({"a.png": 0.001, "b.png": 0.04})
    with pytest.raises(CheckFailedError, match=r"0\.0205"):
        quantise_model(model, report)
    assert not list(tmp_path.glob("net_int8/*/*"))
    assert not (tmp_path / "net_int8" / "config.pbtxt").exists()


def test_every_photos_difference_is_told(model, quantiser, report):
    quantiser({"a.png": 0.001, "b.png": 0.012})
    quantise_model(model, report)
    text = "\n".join(report.lines)
    assert "a.png: 0.0010" in text
    assert "b.png: 0.0120" in text


def test_a_model_that_was_not_built_here_is_refused(model, report):
    model.with_name("build.json").unlink()
    with pytest.raises(PreparationError, match="no record of its build"):
        quantise_model(model, report)


def test_photos_that_are_no_folder_are_refused(model, report, tmp_path):
    with pytest.raises(PreparationError, match="no folder of photos"):
        quantise_model(model, report, photos=tmp_path / "nowhere")


def test_int8_is_asked_for_by_its_precision(monkeypatch, model, tmp_path):
    asked = []
    monkeypatch.setattr("cutstream_server.segmentation.preparation.build.build_model", lambda *_, **__: model)
    monkeypatch.setattr(module, "quantise_model", lambda *arguments, **options: asked.append((arguments[0], options)))
    arguments = ["build", "--precision", "int8", "--calibration", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked == [(model, {"photos": tmp_path, "force": False})]
