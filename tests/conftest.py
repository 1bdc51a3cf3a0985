"""Settings and pictures of all tests."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

# Examples are not timed: on two busy cores the default of 200 ms would fail at random.
settings.register_profile("cutstream", deadline=None)
settings.load_profile("cutstream")


@pytest.fixture(scope="session")
def photo():
    """Gives the file of a photo that comes with scikit-image."""
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"

    def find(name):
        return next(folder.glob(f"{name}.*"))

    return find


@pytest.fixture(scope="session")
def draw():
    """Draws a picture whose red channel is the mask that the tiny network will see; PNG bytes."""

    def picture(mask, green=128, blue=64):
        red = np.clip(np.rint(np.asarray(mask, np.float64) * 255), 0, 255).astype(np.uint8)
        bgr = np.dstack([np.full_like(red, blue), np.full_like(red, green), red])
        return cv2.imencode(".png", bgr)[1].tobytes()

    return picture
