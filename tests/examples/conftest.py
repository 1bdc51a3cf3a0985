"""A server with the tiny network for all examples, and pictures for it."""

import numpy as np
import pytest
from running import running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def square(draw):
    """Draws a square of half the picture's side in its middle; each side in pixels gives another file."""

    def picture(side):
        mask = np.zeros((side, side))
        mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
        return draw(mask)

    return picture
