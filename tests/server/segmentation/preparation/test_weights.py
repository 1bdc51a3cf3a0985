"""Networks are read and written without their weights being in memory, in one file and in two."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cutstream_server.segmentation.preparation.errors import UnknownNetworkError
from cutstream_server.segmentation.preparation.references import is_reference, widened
from cutstream_server.segmentation.preparation.weights import LARGE_BYTES, read_network, write_network

LARGE = np.random.default_rng(3).normal(size=(64, 128, 3, 3)).astype(np.float32)
SMALL = np.arange(4, dtype=np.int64)


def network(large: np.ndarray = LARGE) -> onnx.ModelProto:
    """One large and one small initialiser, and a Constant."""
    constant = numpy_helper.from_array(LARGE[:1], "value")
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["constant"], value=constant),
            helper.make_node("Conv", ["x", "large"], ["y"]),
        ],
        "a graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(SMALL, "small"), numpy_helper.from_array(large, "large")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"key": "value"})
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(network().SerializeToString())
    return tmp_path / "model.onnx"


def initializer(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def test_large_weights_stay_in_the_file_and_small_ones_are_read(file: Path) -> None:
    model = read_network(file)
    assert is_reference(initializer(model, "large"))
    np.testing.assert_array_equal(numpy_helper.to_array(initializer(model, "small")), SMALL)
    assert LARGE.nbytes > LARGE_BYTES
    assert model.ByteSize() < LARGE.nbytes


def test_what_is_read_and_written_is_what_onnx_reads(file: Path, tmp_path: Path) -> None:
    write_network(read_network(file), tmp_path / "copy.onnx")
    assert onnx.load(tmp_path / "copy.onnx") == network()


def test_above_the_limit_the_weights_go_into_a_second_file(file: Path, tmp_path: Path) -> None:
    write_network(read_network(file), tmp_path / "copy.onnx", largest_file_bytes=1000)
    assert (tmp_path / "copy.onnx").stat().st_size < LARGE.nbytes
    found = initializer(onnx.load(tmp_path / "copy.onnx"), "large")
    np.testing.assert_array_equal(numpy_helper.to_array(found), LARGE)


def with_external_data(folder: Path, location: str = "weights.bin") -> Path:
    file = folder / "external.onnx"
    onnx.save(network(), file, save_as_external_data=True, location=location, size_threshold=LARGE_BYTES)
    return file


def test_weights_beside_the_network_are_brought_into_its_file(tmp_path: Path) -> None:
    write_network(read_network(with_external_data(tmp_path)), tmp_path / "copy.onnx")
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(numpy_helper.to_array(initializer(onnx.load(tmp_path / "copy.onnx"), "large")), LARGE)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    file = with_external_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UnknownNetworkError, match=r"weights\.bin, which is not beside it"):
        read_network(file)


def test_weights_that_are_cut_off_are_named(tmp_path: Path) -> None:
    file = with_external_data(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UnknownNetworkError, match=r"weights\.bin is cut off"):
        read_network(file)


def test_weights_outside_the_networks_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    model = network()
    tensor = initializer(model, "large")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "secret").write_bytes(LARGE.tobytes())
    (tmp_path / "inner" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnknownNetworkError, match="outside"):
        read_network(tmp_path / "inner" / "model.onnx")


@pytest.mark.parametrize("kept", [0, 1, 100, LARGE.nbytes // 2, -1])
def test_a_file_that_is_cut_off_is_no_network(kept: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UnknownNetworkError, match=re.escape(str(file))):
        read_network(file)


@pytest.mark.parametrize("content", [b"text that is no network", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 64])
def test_another_kind_of_file_is_no_network(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(UnknownNetworkError, match=re.escape(str(file))):
        read_network(file)


def test_halves_are_widened_while_they_are_copied(tmp_path: Path) -> None:
    halves = LARGE.astype(np.float16)
    (tmp_path / "halves.onnx").write_bytes(network(halves).SerializeToString())
    model = read_network(tmp_path / "halves.onnx")
    tensor = initializer(model, "large")
    tensor.CopyFrom(widened(tensor, "large"))
    write_network(model, tmp_path / "copy.onnx")
    found = numpy_helper.to_array(initializer(onnx.load(tmp_path / "copy.onnx"), "large"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, halves.astype(np.float32))
