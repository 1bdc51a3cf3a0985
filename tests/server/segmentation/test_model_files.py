"""Model files are compared with the hash that was recorded when they were built."""

import hashlib
import logging

import pytest

from cutstream_server.segmentation.model_files import ModelFileError, verify_models
from cutstream_server.segmentation.preparation.record import BuildRecord, write_record


@pytest.fixture
def model(tmp_path):
    """A built model, its record beside it."""
    file = tmp_path / "isnet" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    write_record(file, BuildRecord(1, "a source", "0" * 64, "Apache-2.0", hashlib.sha256(b"weights").hexdigest()))
    return file


def verify(tmp_path):
    verify_models((tmp_path,), ("isnet",))


def test_a_model_as_it_was_built_passes(model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    verify(tmp_path)
    assert hashlib.sha256(b"weights").hexdigest() in caplog.text


@pytest.mark.parametrize("content", [b"weightz", b"weight", b"weights ", b""])
def test_one_changed_byte_is_refused_with_the_file_and_the_remedy(model, tmp_path, content):
    model.write_bytes(content)
    with pytest.raises(ModelFileError, match="cutstream-server model build") as caught:
        verify(tmp_path)
    assert str(caught.value).startswith(f"{model} is not the file that was built")


def test_a_later_version_is_checked_too(model, tmp_path):
    second = tmp_path / "isnet" / "2" / "model.onnx"
    second.parent.mkdir()
    second.write_bytes(b"other weights")
    (second.parent / "build.json").write_bytes((model.parent / "build.json").read_bytes())
    with pytest.raises(ModelFileError, match=str(second)):
        verify(tmp_path)


@pytest.mark.parametrize("record", ["", "{", "{}", "[]", '{"model_sha256": 7}'])
def test_a_damaged_record_is_refused(model, tmp_path, record):
    model.with_name("build.json").write_text(record)
    with pytest.raises(ModelFileError, match="cutstream-server model build"):
        verify(tmp_path)


def test_a_model_that_is_gone_is_refused(model, tmp_path):
    model.unlink()
    with pytest.raises(ModelFileError, match="cannot be checked"):
        verify(tmp_path)


def test_a_model_of_ones_own_is_used_and_named(model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model.with_name("build.json").unlink()
    verify(tmp_path)
    assert f"{model} has no recorded hash" in caplog.text


def test_a_model_that_is_not_served_is_not_read(model, tmp_path):
    model.write_bytes(b"damaged")
    verify_models((tmp_path,), ("another",))
