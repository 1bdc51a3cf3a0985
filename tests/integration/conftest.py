"""A real server with a real embedded Triton that serves isnet and tiny, started once for the tests that share it."""

import pytest
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


@pytest.fixture
def own_server(tmp_path):
    """For tests that do something to the server or its Triton; only the tiny model, so that it starts in seconds."""
    with running_server(tmp_path) as running:
        yield running
