"""A real server with a real embedded Triton that serves isnet and tiny, started once for the tests that share it."""

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
