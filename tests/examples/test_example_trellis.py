"""The preprocessing gives what TRELLIS's own gives."""

import functools
import sys

import numpy as np
import pytest
from examples import trellis_preprocess
from examples.trellis_preprocess import preprocess_image
from PIL import Image

import cutstream


class Pipeline:
    """What TRELLIS's pipeline has to do with preprocessing."""

    def preprocess_image(self, image):
        raise AssertionError("replaced")

    def run(self, image):
        return self.preprocess_image(image)


@pytest.fixture
def pipeline(client):
    replaced = Pipeline()
    replaced.preprocess_image = functools.partial(preprocess_image, client)
    return replaced


def as_trellis_does(rgba):
    """TRELLIS's rule for an image with transparency, by Pillow."""
    rows, columns = np.nonzero(np.asarray(rgba)[..., 3] > 0.8 * 255)
    centre = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    half = int(max(np.ptp(columns), np.ptp(rows)) * 1.2) // 2
    crop = rgba.crop((centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half))
    pixels = np.asarray(crop.resize((518, 518), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    return pixels[..., :3] * pixels[..., 3:] * 255


def test_an_image_with_transparency_becomes_the_picture_of_trellis_itself(pipeline):
    y, x = np.mgrid[:300, :400]
    alpha = np.clip(80 - np.hypot(x - 210, y - 140), 0, 16) * 255 // 16
    rgba = Image.fromarray(np.dstack([x % 256, y % 256, (x + y) % 256, alpha]).astype(np.uint8))
    picture = pipeline.run(rgba)
    assert picture.mode == "RGB"
    # TRELLIS truncates to whole numbers what the server rounds.
    np.testing.assert_allclose(np.asarray(picture), as_trellis_does(rgba), atol=0.5 + 1e-3)


def test_the_object_of_a_photo_lies_on_black_in_the_frame_of_trellis(pipeline):
    photo = np.full((400, 400, 3), (0, 200, 0), np.uint8)
    photo[100:300, 150:250] = (255, 100, 50)
    picture = np.asarray(pipeline.run(Image.fromarray(photo)))
    inside = picture[..., 0] > 128
    # TRELLIS takes 199 pixels for the length of 200, and int(199 * 1.2) for the side of the crop.
    assert inside.any(axis=1).sum() == pytest.approx(518 * 200 / 238, abs=2)
    assert inside.any(axis=0).sum() == pytest.approx(518 * 100 / 238, abs=2)
    assert picture[:20].max() == 0
    np.testing.assert_allclose(picture[259, 259], (255, 100, 50), atol=1)


def test_an_image_without_an_object_says_so(pipeline):
    with pytest.raises(cutstream.CutoutError) as caught:
        pipeline.run(Image.new("RGB", (64, 64)))
    assert caught.value.reason == "NO_OBJECT"


def test_the_command_writes_the_picture(server, square, tmp_path, monkeypatch):
    (tmp_path / "in.png").write_bytes(square(64))
    arguments = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--target", server.target]
    monkeypatch.setattr(sys, "argv", ["trellis_preprocess", *arguments])
    trellis_preprocess.main()
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.size, picture.mode) == ((518, 518), "RGB")
