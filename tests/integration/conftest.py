"""A real server with a real embedded Triton that serves isnet and tiny, started once for the tests that share it."""

import numpy as np
import pytest
from benchmarks.robustness.service import running_service
from running import MODELS, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Shared by tests that leave it as it is."""
    with running_server(tmp_path_factory.mktemp("server"), MODELS, CUTSTREAM_MODEL="isnet") as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def tiny_service(tmp_path_factory):
    """A server with the tiny model only, for the short runs of benchmarks/robustness."""
    with running_service(tmp_path_factory.mktemp("tiny_service")) as service:
        # They do not look at the memory, so nobody has to wait until it is given back.
        service.settle_seconds = 0.0
        yield service


@pytest.fixture
def own_server(tmp_path):
    """For tests that do something to the server or its Triton; only the tiny model, so that it starts in seconds."""
    with running_server(tmp_path) as running:
        yield running


@pytest.fixture
def photos(tmp_path, draw):
    """Makes a folder of pictures of a square, fifty to a folder."""
    mask = np.zeros((64, 64))
    mask[16:48, 16:48] = 1
    picture = draw(mask)

    def make(count):
        folder = tmp_path / "photos"
        for number in range(count):
            path = folder / f"{number // 50}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        return folder

    return make
