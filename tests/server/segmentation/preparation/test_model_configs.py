"""The model repository's configurations: Triton's own schema reads them, and they agree with the networks."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

from cutstream_server.segmentation.preparation import network
from cutstream_server.segmentation.preparation.build import MODEL_FILE_NAME
from cutstream_server.segmentation.preparation.model_config import ModelDescription, configs
from cutstream_server.segmentation.preparation.registry import load_registry

ISNET = load_registry().models["isnet"]
ROOT = Path(__file__).resolve().parents[4]
CPU = ROOT / "model_repository/isnet/config.pbtxt"
GPU = ROOT / "model_repository/isnet/configs/gpu.pbtxt"
TINY = ROOT / "tests/model_repository/tiny/config.pbtxt"
ALL = pytest.mark.parametrize("path", [CPU, GPU, TINY], ids=["cpu", "gpu", "tiny"])

ONNX_TYPES = {TensorProto.UINT8: model_config_pb2.TYPE_UINT8, TensorProto.FLOAT: model_config_pb2.TYPE_FP32}


def config(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def interface(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[int]]]:
    """Name, Triton type and dimensions without the batch, -1 where they are free."""
    tensors = [(value.name, value.type.tensor_type) for value in values]
    return [
        (name, ONNX_TYPES[tensor.elem_type], [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim])
        for name, tensor in tensors
    ]


def with_free_batch(values: list[model_config_pb2.ModelInput]) -> list[tuple[str, int, list[int]]]:
    return [(value.name, value.data_type, [-1, *value.dims]) for value in values]


def prepared() -> onnx.ModelProto:
    """A network of one layer, prepared as IS-Net is."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["logits"]), helper.make_node("Sigmoid", ["logits"], ["mask"])],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 64, 64])],
        [numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 15)]
    return network.prepare_network(helper.make_model(graph, opset_imports=opsets, ir_version=8), ISNET.interface, {})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write = runpy.run_path(str(ROOT / "tests/model_repository/make_tiny.py"))["write_tiny_model"]
    return write(tmp_path)


@pytest.mark.parametrize("path", [CPU, GPU], ids=["cpu", "gpu"])
def test_isnets_inputs_and_outputs_are_those_of_the_prepared_network(path: Path) -> None:
    graph = prepared().graph
    assert with_free_batch(config(path).input) == interface(graph.input)
    assert with_free_batch(config(path).output) == interface(graph.output)


def test_tinys_inputs_and_outputs_are_those_of_its_network(tiny: Path) -> None:
    graph = onnx.load(tiny).graph
    assert with_free_batch(config(TINY).input) == interface(graph.input)
    assert with_free_batch(config(TINY).output) == interface(graph.output)


def test_tiny_gives_the_red_channel_as_alpha(tiny: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    (alpha,) = ort.InferenceSession(tiny, providers=["CPUExecutionProvider"]).run(None, {"image": picture})
    np.testing.assert_allclose(alpha, picture[:, :1] / 255, atol=1e-7)


def test_tiny_differs_from_isnet_in_name_warm_up_and_queue_policy_only() -> None:
    ours, isnet = config(TINY), config(CPU)
    for each in (ours, isnet):
        each.ClearField("name")
        each.ClearField("model_warmup")
        each.dynamic_batching.ClearField("default_queue_policy")
    assert ours == isnet


@pytest.mark.parametrize("path", [CPU, GPU], ids=["cpu", "gpu"])
def test_isnets_are_what_the_build_of_any_network_writes(path: Path) -> None:
    description = ModelDescription(ISNET.title, ISNET.licence, ISNET.commercial_use, batches=True)
    folder = CPU.parent
    assert configs("isnet", description, ISNET.interface)[path.relative_to(folder)] == path.read_text()


FIXED = load_registry().models["u2netp"]


def written(file: str, *, batches: bool) -> model_config_pb2.ModelConfig:
    """What is written for a network of one size."""
    description = ModelDescription('a "network"\nof mine', "MIT", None, batches)
    text = configs("mine", description, FIXED.interface)[Path(file)]
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/gpu.pbtxt"])
def test_a_network_of_one_size_takes_that_alone(file: str) -> None:
    made = written(file, batches=True)
    assert (list(made.input[0].dims), list(made.output[0].dims)) == ([3, 320, 320], [1, 320, 320])


def test_a_network_of_one_picture_has_the_batch_among_its_dimensions_on_a_gpu() -> None:
    made = written("configs/gpu.pbtxt", batches=False)
    assert (made.max_batch_size, list(made.input[0].dims)) == (0, [1, 3, 320, 320])
    assert list(made.model_warmup[0].inputs["image"].dims) == [1, 3, 320, 320]


def test_what_the_service_asks_for_stands_among_the_parameters() -> None:
    found = {key: value.string_value for key, value in written("config.pbtxt", batches=False).parameters.items()}
    assert {key: found[f"CUTSTREAM_{key}"] for key in ("SIDE", "LICENCE", "COMMERCIAL_USE")} == {
        "SIDE": "320",
        "LICENCE": "MIT",
        "COMMERCIAL_USE": "unknown",
    }


@ALL
def test_a_model_is_named_like_its_folder(path: Path) -> None:
    folder = path.parent if path.parent.name != "configs" else path.parent.parent
    assert config(path).name == folder.name


@pytest.mark.parametrize("path", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_model_file_is_the_one_that_the_build_writes(path: Path) -> None:
    assert (config(path).name, config(path).default_model_filename) == ("isnet", MODEL_FILE_NAME)


@pytest.mark.parametrize("path", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_queue_is_bounded_in_length_and_time(path: Path) -> None:
    policy = config(path).dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.max_queue_size > 0
    assert policy.default_timeout_microseconds > 0


@pytest.mark.parametrize("path", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_warm_up_runs_an_image_of_the_trainings_size(path: Path) -> None:
    (sample,) = config(path).model_warmup
    assert (sample.batch_size, list(sample.inputs["image"].dims)) == (
        1,
        [3, ISNET.interface.side, ISNET.interface.side],
    )


def test_the_cpu_batch_is_one_because_the_native_backend_fixes_it() -> None:
    assert config(CPU).max_batch_size == 1


def test_no_configuration_demands_a_gpu() -> None:
    kinds = {group.kind for path in (CPU, GPU, TINY) for group in config(path).instance_group}
    assert model_config_pb2.ModelInstanceGroup.KIND_GPU not in kinds


def tensorrt() -> dict[str, str]:
    (accelerator,) = config(GPU).optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    return dict(accelerator.parameters)


def profile(bound: str) -> dict[str, list[int]]:
    shapes = dict(part.rsplit(":", 1) for part in tensorrt()[f"trt_profile_{bound}_shapes"].split(","))
    return {name: [int(side) for side in shape.split("x")] for name, shape in shapes.items()}


def test_tensorrt_computes_in_float16_and_keeps_its_engine() -> None:
    parameters = tensorrt()
    assert (parameters["precision_mode"], parameters["trt_engine_cache_enable"]) == ("FP16", "true")
    assert parameters["trt_engine_cache_path"].startswith("/")


def test_tensorrts_profile_names_the_picture_before_and_after_the_cast() -> None:
    cast = next(node for node in prepared().graph.node if node.op_type == "Cast")
    for bound in ("min", "opt", "max"):
        assert list(profile(bound)) == [cast.input[0], cast.output[0]]


def test_tensorrts_profile_covers_every_batch_and_the_sizes_of_all_scales() -> None:
    smallest, best, largest = (profile(bound)["image"] for bound in ("min", "opt", "max"))
    assert smallest[0] == 1
    assert largest[0] == config(GPU).max_batch_size
    assert best == [1, 3, ISNET.interface.side, ISNET.interface.side]
    # The scales 0.8 to 1.2 of 1024, rounded to multiples of 32.
    assert smallest[2] <= 832
    assert largest[2] >= 1216
