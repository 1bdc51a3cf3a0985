"""What comes back: files, PIL images and arrays, each only when asked for."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cutstream import Cutout, Metrics
from cutstream import extras as extras_module

RNG = np.random.default_rng(0)


def raw(array: np.ndarray, channels: str, sample_type: str) -> Cutout:
    metrics = Metrics(effective_options={"channels": channels, "sample_type": sample_type})
    height_px, width_px = array.shape[:2]
    return Cutout(array.tobytes(), "application/octet-stream", width_px, height_px, metrics=metrics)


def encoded_as(image: Image.Image, file_format: str) -> Cutout:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, lossless=True)
    return Cutout(buffer.getvalue(), f"image/{file_format.lower()}", *image.size)


@pytest.mark.parametrize(("channels", "count"), [("rgba", 4), ("rgb", 3), ("alpha", 1)])
@pytest.mark.parametrize(("sample_type", "dtype"), [("uint8", "u1"), ("uint16", "<u2"), ("float32", "<f4")])
def test_raw_samples_come_as_an_array(channels, count, sample_type, dtype):
    shape = (3, 5) if count == 1 else (3, 5, count)
    array = (RNG.random(shape) * 200).astype(dtype)
    result = raw(array, channels, sample_type).array
    assert result.dtype == np.dtype(dtype)
    assert np.array_equal(result, array)


@pytest.mark.parametrize(
    ("channels", "count", "dtype", "sample_type"),
    [("rgba", 4, "u1", "uint8"), ("rgb", 3, "u1", "uint8"), ("alpha", 1, "u1", "uint8"), ("alpha", 1, "<u2", "uint16"),
     ("alpha", 1, "<f4", "float32")],
)  # fmt: skip
def test_raw_samples_come_as_a_pil_image(channels, count, dtype, sample_type):
    array = (RNG.random((3, 5) if count == 1 else (3, 5, count)) * 200).astype(dtype)
    assert np.array_equal(np.asarray(raw(array, channels, sample_type).image), array)


def test_raw_samples_that_pillow_cannot_hold_say_so():
    with pytest.raises(ValueError, match=r"use \.array"):
        _ = raw(np.zeros((3, 5, 4), "<u2"), "rgba", "uint16").image


def test_raw_samples_of_unknown_layout_are_refused():
    with pytest.raises(ValueError, match="laid out"):
        _ = Cutout(bytes(60), "application/octet-stream", 5, 3).array


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_file_comes_as_image_and_array(file_format):
    pixels = RNG.integers(1, 256, (4, 6, 4), dtype=np.uint8)
    cutout = encoded_as(Image.fromarray(pixels), file_format)
    assert (cutout.image.mode, cutout.image.size) == ("RGBA", (6, 4))
    assert np.array_equal(cutout.array, pixels)


def test_16_bit_grey_png_keeps_its_bits():
    pixels = RNG.integers(0, 65536, (4, 6)).astype(np.uint16)
    assert np.array_equal(encoded_as(Image.fromarray(pixels), "PNG").array, pixels)


def test_16_bit_colour_png_is_refused_instead_of_losing_bits():
    cv2 = pytest.importorskip("cv2")
    data = cv2.imencode(".png", np.full((2, 2, 4), 40000, np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match="16-bit colour"):
        _ = Cutout(data, "image/png", 2, 2).image


def test_the_array_cannot_be_written_to():
    cutout = encoded_as(Image.new("RGBA", (2, 2)), "PNG")
    with pytest.raises(ValueError, match="read-only"):
        cutout.array[0, 0] = 1


def test_the_image_is_decoded_once():
    cutout = encoded_as(Image.new("RGBA", (2, 2)), "PNG")
    assert cutout.image is cutout.image


def test_saving_writes_the_bytes_as_received(tmp_path):
    path = Cutout(b"exactly this", "image/png", 1, 1).save(tmp_path / "a.png")
    assert path.read_bytes() == b"exactly this"


def test_metrics_only_has_neither_image_nor_array_nor_file(tmp_path):
    cutout = Cutout(b"", "", 0, 0)
    for use in (lambda: cutout.image, lambda: cutout.array, lambda: cutout.save(tmp_path / "a")):
        with pytest.raises(ValueError, match="metrics only"):
            use()


@pytest.mark.parametrize(("attribute", "missing"), [("image", "PIL.Image"), ("array", "numpy")])
def test_a_missing_package_is_named_with_what_to_install(attribute, missing, monkeypatch):
    def absent(module: str) -> object:
        raise ImportError(module)

    cutout = encoded_as(Image.new("RGBA", (2, 2)), "PNG")
    monkeypatch.setattr(extras_module.importlib, "import_module", absent)
    with pytest.raises(ImportError, match="pip install pillow numpy"):
        getattr(cutout, attribute)


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cutout(b"", "", 0, 0).data = b"x"  # type: ignore[misc]


def test_the_bytes_are_not_shown():
    assert "secret" not in repr(Cutout(b"secret", "image/png", 1, 1))


@pytest.mark.parametrize(
    ("media_type", "suffix"), [("image/png", ".png"), ("image/webp", ".webp"), ("application/octet-stream", ".raw")]
)
def test_the_suffix_follows_from_the_media_type(media_type, suffix):
    assert Cutout(b"", media_type, 1, 1).suffix == suffix
