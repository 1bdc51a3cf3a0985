"""A real Triton with small networks whose answers are known, one for all tests that do not kill it."""

import asyncio
import importlib.util
import os
import signal
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import Launch, start_triton

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = ("tiny", "sixteen", "narrow", "nan", "cropping", "picky")


def write_tiny_model(folder):
    """Loads tests/model_repository/make_tiny.py, which is no module of a package, and runs it."""
    spec = importlib.util.spec_from_file_location("make_tiny", REPOSITORY / "make_tiny.py")
    make_tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tiny)
    return make_tiny.write_tiny_model(folder)


CONFIG = """
name: "{name}"
backend: "openvino"
default_model_filename: "model.onnx"
max_batch_size: 1
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ 3, -1, -1 ] }} ]
output [ {{ name: "alpha" data_type: {mask} dims: [ 1, -1, -1 ] }} ]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
dynamic_batching {{ {queue} }}
"""


def write_model_config(repository, name, *, mask="TYPE_FP32", instances=1, queue="", parameters=None):
    """Writes a model's configuration."""
    text = CONFIG.format(name=name, mask=mask, instances=instances, queue=queue)
    for key, value in (parameters or {}).items():
        text += f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
    (repository / name).mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(text)


def write_network(repository, name, *nodes, mask=TensorProto.FLOAT, constants=()):
    """Writes a network of nodes from `image` uint8 [N, 3, H, W] over `pixels`, its float32 values, to `alpha`."""
    cast = helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [cast, *nodes],
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("alpha", mask, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_network(repository, name, model)


def save_network(repository, name, model):
    """Puts an ONNX network where a model's first version is looked for."""
    target = repository / name / "1" / "model.onnx"
    target.parent.mkdir(parents=True)
    onnx.save(model, target)


@pytest.fixture(scope="session")
def write_config():
    return write_model_config


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """The tiny network, and some that are made to fail."""
    folder = tmp_path_factory.mktemp("models")
    write_model_config(folder, "tiny")
    tiny = onnx.load(write_tiny_model(folder))
    # The red channel at 16 bits: 257 times 255 is 65535.
    write_model_config(folder, "sixteen", mask="TYPE_UINT16")
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [1, 3, 1, 1], [257.0, 0, 0])
    scaled = helper.make_node("Conv", ["pixels", "kernel"], ["scaled"])
    cast = helper.make_node("Cast", ["scaled"], ["alpha"], to=TensorProto.UINT16)
    write_network(folder, "sixteen", scaled, cast, mask=TensorProto.UINT16, constants=[kernel])
    write_model_config(folder, "narrow", queue="default_queue_policy { max_queue_size: 1 }")
    save_network(folder, "narrow", tiny)
    mean = helper.make_node("ReduceMean", ["pixels"], ["grey"], axes=[1])
    negative = helper.make_node("Neg", ["grey"], ["negative"])
    below = helper.make_node("Sub", ["negative", "grey"], ["below"])
    write_model_config(folder, "nan")
    write_network(folder, "nan", mean, negative, below, helper.make_node("Sqrt", ["below"], ["alpha"]))
    write_model_config(folder, "cropping")
    pool = helper.make_node("MaxPool", ["grey"], ["alpha"], kernel_shape=[2, 2], strides=[2, 2])
    write_network(folder, "cropping", mean, pool)
    # Like IS-Net, it cannot halve what is too small: 40 pixels at least, but the same size out as in.
    write_model_config(folder, "picky")
    halved = helper.make_node("MaxPool", ["grey"], ["pooled"], kernel_shape=[40, 40])
    size = helper.make_node("Shape", ["grey"], ["size"])
    resized = helper.make_node("Resize", ["pooled", "", "", "size"], ["alpha"])
    write_network(folder, "picky", mean, halved, size, resized)
    return folder


@pytest.fixture(scope="session")
def launch(repository):
    """How to start a Triton that serves the tiny network."""
    return Launch(open_environment(), (repository,), ("tiny",))


@pytest.fixture(scope="session")
def background_loop():
    """An event loop that outlives the tests' own ones."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def triton(repository, background_loop):
    """A running Triton with all the networks."""
    launch = Launch(open_environment(), (repository,), MODELS)
    process = asyncio.run_coroutine_threadsafe(start_triton(launch), background_loop).result()
    yield process
    asyncio.run_coroutine_threadsafe(process.stop(), background_loop).result()


@pytest.fixture
async def connection(triton):
    """A connection to that Triton."""
    connection = TritonConnection(triton.url)
    yield connection
    await connection.close()


@pytest.fixture
def held_up(triton):
    """Stops the backend processes; giving them back is the test's, within the second after which Triton drops them."""
    backends = triton.run.processes()[1:]
    for process in backends:
        os.kill(process, signal.SIGSTOP)

    def release():
        for process in backends:
            os.kill(process, signal.SIGCONT)

    yield release
    release()


@pytest.fixture
def picture():
    """Makes a random picture of a size, uint8 [1, 3, H, W]."""
    random = np.random.default_rng(0)
    return lambda height, width: random.integers(0, 256, (1, 3, height, width), dtype=np.uint8)
