"""The pixels that arrive, read by libraries that are not the service's encoder."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

import cutstream

SIDE = 512
# An opaque square of colour (255, 128, 64) on nothing: red is the mask that the tiny network gives.
LEFT, TOP, RIGHT, BOTTOM = 128, 96, 384, 352
COLOUR = [255, 128, 64]


@pytest.fixture(scope="module")
def square(draw):
    mask = np.zeros((SIDE, SIDE))
    mask[TOP:BOTTOM, LEFT:RIGHT] = 1
    return draw(mask)


@pytest.fixture
def remove(client):
    def run(picture, **options):
        return client.remove(picture, **{"model": "tiny", "profile": "fast", **options})

    return run


def opened(cutout):
    return Image.open(io.BytesIO(cutout.data))


def png16(array):
    return cv2.imencode(".png", array)[1].tobytes()


def test_png_is_straight_rgba_of_518_pixels(remove, square):
    image = opened(remove(square))
    assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (518, 518))
    assert list(image.getpixel((259, 259))) == [*COLOUR, 255]
    assert image.getpixel((2, 2)) == (0, 0, 0, 0)


def test_webp_holds_the_same_pixels_as_png(remove, square):
    png, webp = opened(remove(square)), opened(remove(square, output_format="webp"))
    assert webp.format == "WEBP"
    np.testing.assert_array_equal(np.asarray(webp.convert("RGBA")), np.asarray(png))


def test_raw_holds_the_same_pixels_as_png(remove, square):
    raw = np.frombuffer(remove(square, output_format="raw").data, np.uint8).reshape(518, 518, 4)
    np.testing.assert_array_equal(raw, np.asarray(opened(remove(square))))


def test_the_full_frame_keeps_the_size_of_the_source(remove, square):
    cutout = remove(square, framing="full")
    assert opened(cutout).size == (SIDE, SIDE)
    assert (cutout.crop.left_px, cutout.crop.top_px, cutout.crop.width_px) == (0, 0, SIDE)


def test_the_full_frame_in_another_aspect_is_never_distorted(remove, square):
    alpha = np.asarray(opened(remove(square, framing="full", output_width_px=300, output_height_px=150)))[..., 3]
    rows, columns = np.nonzero(alpha > 127)
    # The square of 256 of 512 source pixels becomes one of 75 of 150.
    assert abs(np.ptp(rows) + 1 - 75) <= 1
    assert abs(np.ptp(columns) + 1 - 75) <= 1


def test_native_gives_source_pixels_as_they_are(remove, square):
    cutout = remove(square, size_mode="native", padding_percentage=0.25)
    pixels = np.asarray(opened(cutout))
    assert pixels.shape[:2] == (320, 320)
    left, top = int(cutout.crop.left_px), int(cutout.crop.top_px)
    inside = pixels[100:110, 100:110, :3]
    source = cv2.cvtColor(cv2.imdecode(np.frombuffer(square, np.uint8), 1), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(inside, source[top + 100 : top + 110, left + 100 : left + 110])


def test_longest_at_most_reduces_but_never_enlarges(remove, square):
    assert opened(remove(square, size_mode="longest_at_most", output_width_px=100)).size == (100, 100)
    assert max(opened(remove(square, size_mode="longest_at_most", output_width_px=4000)).size) <= 310


def test_rgb_lies_over_the_background_asked_for(remove, square):
    image = opened(remove(square, channels="rgb", background_color="#0A141E"))
    assert image.mode == "RGB"
    assert image.getpixel((2, 2)) == (10, 20, 30)
    assert list(image.getpixel((259, 259))) == COLOUR


def test_premultiplied_colour_is_straight_colour_times_alpha(remove, draw):
    y, x = np.mgrid[:SIDE, :SIDE]
    soft = draw(np.clip((240 - np.hypot(x - 256, y - 256)) / 200, 0, 1))
    options = {"output_format": "raw", "sample_type": "uint16", "output_width_px": 128}
    straight = np.frombuffer(remove(soft, **options).data, "<u2").reshape(128, 128, 4) / 65535
    multiplied = remove(soft, alpha_mode="premultiplied", **options)
    multiplied = np.frombuffer(multiplied.data, "<u2").reshape(128, 128, 4) / 65535
    np.testing.assert_allclose(multiplied[..., :3], straight[..., :3] * straight[..., 3:], atol=2 / 65535)


@pytest.mark.parametrize("mode", ["I;16", "float32"])
def test_sixteen_bits_of_input_alpha_survive(client, mode):
    alpha = np.zeros((64, 64), np.uint16)
    alpha[16:48, 16:48] = np.arange(20000, 20000 + 32 * 32 * 37, 37, dtype=np.uint16).reshape(32, 32)
    picture = png16(np.dstack([np.full((64, 64), 30000, np.uint16)] * 3 + [alpha]))
    sample = {"output_format": "raw", "sample_type": "float32"} if mode == "float32" else {"sample_type": "uint16"}
    cutout = client.remove(picture, framing="full", channels="alpha", **sample)
    if mode == "float32":
        seen = np.rint(np.frombuffer(cutout.data, np.float32).reshape(64, 64) * 65535)
    else:
        seen = cv2.imdecode(np.frombuffer(cutout.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen, alpha)
    assert cutout.metrics.alpha_source == "input"


def test_colour_under_zero_alpha_is_not_leaked(client):
    picture = np.full((64, 64, 4), 200, np.uint8)
    picture[..., 3] = 0
    picture[20:40, 20:40, 3] = 255
    pixels = np.asarray(opened(client.remove(png16(picture), framing="full")))
    assert pixels[pixels[..., 3] == 0].max() == 0


def test_input_alpha_can_be_ignored(remove):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = (0, 0, 255, 255)
    picture[:8, :8, 3] = 255
    used, ignored = remove(png16(picture)), remove(png16(picture), input_alpha="ignore")
    assert (used.metrics.alpha_source, ignored.metrics.alpha_source) == ("input", "model")
    assert used.metrics.foreground_box.left_px == 0
    assert ignored.metrics.foreground_box.left_px > 10


def test_metrics_only_measures_and_sends_no_picture(remove, square):
    cutout = remove(square, content="metrics_only")
    assert cutout.data == b""
    assert cutout.metrics.object_coverage_ratio == pytest.approx(0.25, abs=0.002)


def test_a_region_limits_the_search(remove, draw):
    mask = np.zeros((SIDE, SIDE))
    mask[100:200, 50:150] = mask[300:400, 300:450] = 1
    box = cutstream.Box(left_px=250, top_px=250, width_px=250, height_px=250)
    found = remove(draw(mask), region_of_interest=box).metrics.foreground_box
    assert (found.left_px, found.top_px) == pytest.approx((300, 300), abs=1)


def test_a_region_without_an_object_is_no_object(remove, square):
    box = cutstream.Box(left_px=0, top_px=0, width_px=50, height_px=50)
    with pytest.raises(cutstream.CutoutError) as caught:
        remove(square, region_of_interest=box)
    assert caught.value.reason == "NO_OBJECT"
    assert caught.value.metrics.validation == "no_object"


def test_trellis_gives_the_picture_of_its_own_preprocessing(client):
    """The rule as TRELLIS states it, by Pillow: box over 204 of 255, factor 1.2, Lanczos, colour times alpha."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:301, :407] + 0.5
    alpha = np.clip((100 - np.hypot((x - 180) / 1.2, y - 160)) / 6 + 0.5, 0, 1)
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (301, 407, 3)).astype(np.uint8), (0, 0), 4)
    rgba = np.dstack([rgb, np.rint(255 * alpha).astype(np.uint8)])
    rows, columns = np.nonzero(rgba[..., 3] > 204)
    left, top, right, bottom = columns.min(), rows.min(), columns.max(), rows.max()
    side = int(max(right - left, bottom - top) * 1.2)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    box = (middle_x - side // 2, middle_y - side // 2, middle_x + side // 2, middle_y + side // 2)
    expected = Image.fromarray(rgba).crop(box).resize((518, 518), Image.Resampling.LANCZOS)
    expected = np.asarray(expected).astype(np.float32) / 255
    expected = expected[..., :3] * expected[..., 3:] * 255
    cutout = client.remove(Image.fromarray(rgba), preset="trellis", channels="rgb")
    np.testing.assert_allclose(np.asarray(opened(cutout)), expected, atol=1)
