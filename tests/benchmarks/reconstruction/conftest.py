import cv2
import numpy as np
import pytest
from benchmarks.quality.frame import Result
from benchmarks.reconstruction.cameras import Camera
from benchmarks.reconstruction.paints import mottled
from benchmarks.reconstruction.render import render
from benchmarks.reconstruction.shapes import Part, Shape
from benchmarks.reconstruction.solids import sphere
from benchmarks.reconstruction.views import View

from cutstream_server.imaging.geometry import CropBox


@pytest.fixture(scope="session")
def ball():
    """A sphere of radius 0.5, off the middle."""
    return Shape("ball", (Part(sphere((0.2, 0.1, 0.15), 0.5), mottled((0.8, 0.3, 0.2))),), 1, 0)


@pytest.fixture(scope="session")
def ball_views(ball):
    """Six small views of it."""
    views = []
    for index in range(6):
        camera = Camera.orbiting(
            60 * index, 25 * (index % 3), 4.0, focal_px=220, centre_px=(70, 60), width_px=140, height_px=120
        )
        made = render(ball, camera)
        truth = np.rint(255 * np.dstack([made.foreground, made.alpha])).astype(np.uint8)
        image = bytes(cv2.imencode(".png", truth[..., 2::-1])[1])
        views.append(View(f"ball-{index:02}", camera, image, truth))
    return views


@pytest.fixture
def cut_perfectly(ball_views):
    """A pipeline that returns the truth in a crop of its own, 20 px from the left and 10 px from the top."""
    truths = {view.image: view.truth for view in ball_views}

    def cut(image):
        truth = truths[image]
        return Result(truth[10:, 20:], CropBox(20, 10, truth.shape[1] - 20, truth.shape[0] - 10))

    return cut
