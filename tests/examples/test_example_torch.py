"""The dataset gives each cutout once, whatever the number of workers. PyTorch is no dependency of this project."""

import functools
import logging

import numpy as np
import pytest

import cutstream

torch = pytest.importorskip(
    "torch",
    reason="PyTorch is not installed: pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
)
from examples.torch_dataset import CutoutDataset, cutout_loader  # noqa: E402 - needs PyTorch

COUNT = 11


@pytest.fixture
def photos(tmp_path, square):
    for number in range(COUNT):
        path = tmp_path / "photos" / f"{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(square(40 + 4 * number))
    return tmp_path / "photos"


@pytest.fixture
def dataset(photos, server):
    return CutoutDataset(str(photos), server.target, output_width_px=48)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_image_is_in_one_batch_also_when_this_process_used_a_client_before(dataset, photos, client, workers):
    client.info()
    batches = list(cutout_loader(dataset, batch_size=3, workers=workers))
    names = [name for batch, _ in batches for name in batch]
    assert sorted(names) == sorted(str(path) for path in photos.rglob("*.png"))
    assert {tuple(images.shape[1:]) for _, images in batches} == {(4, 48, 48)}


def test_a_second_epoch_gives_the_same_batches(dataset):
    loader = cutout_loader(dataset, batch_size=4, workers=2)
    first, second = list(loader), list(loader)
    assert [names for names, _ in first] == [names for names, _ in second]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first, second, strict=True))


def test_a_tensor_holds_the_samples_of_the_cutout_as_planes_of_0_to_1(dataset, client):
    name, tensor = next(iter(dataset))
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    expected = np.asarray(client.remove(name, output_width_px=48).image)
    np.testing.assert_array_equal(np.rint(tensor.numpy() * 255), expected.transpose(2, 0, 1))


def test_an_image_without_a_cutout_is_left_out_with_a_warning(dataset, photos, caplog):
    (photos / "0" / "broken.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        assert len(list(dataset)) == COUNT
    assert "broken.png is left out: UNSUPPORTED_FORMAT" in caplog.text


def test_a_server_that_is_away_ends_the_epoch_with_an_error(photos, monkeypatch):
    monkeypatch.setattr("cutstream.aio.RetryConfig", functools.partial(cutstream.RetryConfig, unreachable_seconds=0.2))
    dataset = CutoutDataset(str(photos), "127.0.0.1:1")
    with pytest.raises(cutstream.CutoutError, match="SERVER_UNREACHABLE"):
        list(dataset)
