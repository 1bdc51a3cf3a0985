"""The served network against the source network."""

import sys

import cv2
import numpy as np
import onnxruntime
import pytest

from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.resample import to_network_input
from cutstream_server.segmentation.preparation.registry import load_registry
from cutstream_server.segmentation.preparation.sources import cached_source, default_cache

PHOTOS = ["astronaut", "coffee", "rocket"]
LARGEST_MEAN_DIFFERENCE = 0.002


@pytest.fixture(scope="module")
def source_network():
    """IS-Net as published, run by ONNX Runtime in float32."""
    source = cached_source(load_registry().entry("isnet"), default_cache())
    if source is None:
        pytest.skip("the published network is not on this machine: the model was built from a file or elsewhere")
    session = onnxruntime.InferenceSession(source.path, providers=["CPUExecutionProvider"])

    def run(image):
        # As in training: x / 255 - 0.5.
        pixels = image.astype(np.float32) / 255 - 0.5
        return session.run(None, {session.get_inputs()[0].name: pixels})[0][0, 0]

    return run


@pytest.mark.real_model
@pytest.mark.parametrize("name", PHOTOS)
def test_the_mask_is_that_of_the_source_network(client, source_network, photo, name, capsys):
    data = photo(name).read_bytes()
    rgb = decode_image(data, max_pixels=10**8).rgb
    image = to_network_input(rgb, 1024, 1024)
    # A square of the network's own size comes back as it was: no resampling stands between the two masks.
    square = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(image[0].transpose(1, 2, 0)), cv2.COLOR_RGB2BGR))[1]
    cutout = client.remove(
        square.tobytes(),
        framing="full",
        channels="alpha",
        output_format="raw",
        sample_type="uint16",
        alpha_floor=0.0,
        profile="fast",
    )
    difference = np.abs(cutout.array.reshape(1024, 1024) / 65535 - source_network(image))
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: the mask differs by {difference.mean():.2e} on average")
    assert difference.mean() <= LARGEST_MEAN_DIFFERENCE
