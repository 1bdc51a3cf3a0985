"""Which passes of the network each profile makes; the network is a function here."""

import time

import numpy as np
import pytest

from cutstream_server.options import Options
from cutstream_server.report import ImageReport
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.connection import Prediction
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.segmenter import Segmenter
from cutstream_server.workers import Workers

# An object of 200 x 200 pixels in the middle; with its margins it is seen through a window of 320 x 320.
PICTURE = np.zeros((640, 640, 3), np.uint8)
PICTURE[220:420, 220:420] = 255
CATALOG = ModelCatalog({"isnet": ModelRules(), "fixed": ModelRules(side=320, other_sides=False)})


class RedNetwork:
    """Alpha is the red channel; keeps the shapes of its inputs."""

    def __init__(self):
        self.sides = []
        self.coverages = []
        self.timeouts = []

    async def infer(self, _model, image, *, timeout):  # noqa: ASYNC109 - as TritonClient has it
        alpha = image[:, :1].astype(np.float32) / 255
        self.sides.append(image.shape[-1])
        self.coverages.append(float(alpha.mean()))
        self.timeouts.append(timeout)
        return Prediction(alpha, "7")


@pytest.fixture
def workers():
    made = Workers(1)
    yield made
    made.close()


@pytest.fixture
def network():
    return RedNetwork()


@pytest.fixture
def segment(workers, network):
    async def run(picture=PICTURE, **options):
        report = ImageReport(Options(**options))
        return await Segmenter(network, workers, CATALOG).segment(picture, report, time_left=60.0), report

    return run


@pytest.mark.parametrize(("profile", "sides"), [("fast", [1024]), ("balanced", [1024, 768]), ("quality", [1024, 1024])])
async def test_a_profile_makes_its_passes(segment, network, profile, sides):
    await segment(profile=profile)
    assert network.sides == sides


@pytest.mark.parametrize(("profile", "sides"), [("fast", [320]), ("balanced", [320, 320])])
async def test_a_network_of_one_size_is_given_that_in_every_pass(segment, network, profile, sides):
    await segment(profile=profile, model="fixed")
    assert network.sides == sides


async def test_the_second_pass_sees_the_window_alone(segment, network):
    await segment(profile="quality")
    assert network.coverages == pytest.approx([200**2 / 640**2, 200**2 / 320**2], rel=0.01)


async def test_scales_are_those_of_the_first_look(segment, network):
    await segment(profile="balanced", enable_multi_scale=True, multi_scale_factors=(0.5, 1.0))
    assert sorted(network.sides[:2]) == [512, 1024]
    assert network.sides[2:] == [768]


async def test_an_image_in_which_nothing_is_seen_gets_one_pass(segment, network):
    alpha, report = await segment(np.zeros((64, 64, 3), np.uint8), profile="quality")
    assert network.sides == [1024]
    assert (alpha.max(), report.agreement, report.looks) == (0, None, [0.0])


async def test_a_closer_look_keeps_what_the_first_one_saw(segment):
    alpha, report = await segment(profile="balanced")
    np.testing.assert_allclose(alpha, PICTURE[..., 0] / 255, atol=0.4)  # Interpolation at the edge, one pixel wide.
    assert np.abs(alpha - PICTURE[..., 0] / 255).mean() < 1e-3
    assert report.agreement > 0.98
    assert report.looks == pytest.approx([1, 1], abs=0.02)


async def test_time_runs_on_between_the_passes(segment, network, monkeypatch):
    real = time.monotonic
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: real() + next(ticks))
    await segment(profile="quality")
    assert network.timeouts[1] < network.timeouts[0]
