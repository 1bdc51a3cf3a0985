"""A network of every interface of the registry, wrapped as `model build` wraps it, on one real Triton."""

import asyncio

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from synthetic_networks import REGISTRY

from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import Launch, start_triton
from cutstream_server.segmentation.preparation.build import Wrapped, put_into_repository
from cutstream_server.segmentation.preparation.digests import file_digest
from cutstream_server.segmentation.preparation.registry import load_registry
from cutstream_server.segmentation.preparation.sources import Source

SECONDS = 60.0
# OpenVINO in float32 differs by rounding; what is float16 in the network rounds to 5e-4.
ROUNDING, ROUNDING_OF_HALVES = 1e-4, 3e-3
HINT = 'key: "HINT_BF16" value: { string_value:'


class _Silent:
    def say(self, line):
        pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """All of them by the build's own path, the check left out: it is what is tested here."""
    folder = tmp_path_factory.mktemp("models")
    for name, synthetic in REGISTRY.items():
        entry = load_registry().models[name]
        file = folder / f"{name}.onnx"
        onnx.save(synthetic.model, file)
        source = Source(file, file.name, file_digest(file), entry.licence)
        wrapped = Wrapped(source, entry.interface, entry.title, entry.weights, entry.licence, entry.commercial_use)
        model = folder / "repository" / name / "1" / "model.onnx"
        put_into_repository(wrapped, model, _Silent(), photo=None, check=False)
        config = model.parents[1] / "config.pbtxt"
        # bfloat16, which processors may compute in, would hide small mistakes.
        text = config.read_text()
        assert f'{HINT} "YES"' in text
        config.write_text(text.replace(f'{HINT} "YES"', f'{HINT} "NO"'))
    return folder / "repository"


@pytest.fixture(scope="module")
def answers(repository):
    """What each network answers to a picture of its own side."""

    async def ask():
        process = await start_triton(Launch(open_environment(), (repository,), tuple(REGISTRY)))
        connection = TritonConnection(process.url)
        try:
            found = {}
            for name in REGISTRY:
                prediction = await connection.infer(name, picture_for(name), timeout=SECONDS)
                found[name] = prediction.alpha.copy()
            return found
        finally:
            await connection.close()
            await process.stop()

    return asyncio.run(ask())


def picture_for(name):
    side = load_registry().models[name].interface.side
    return np.random.default_rng(11).integers(0, 256, (1, 3, side, side), dtype=np.uint8)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_served_mask_is_the_one_that_numpy_computes(answers, name):
    output = REGISTRY[name].model.graph.output[0].type.tensor_type.elem_type
    tolerance = ROUNDING_OF_HALVES if output == TensorProto.FLOAT16 else ROUNDING
    np.testing.assert_allclose(answers[name], REGISTRY[name].alpha(picture_for(name)), atol=tolerance)
