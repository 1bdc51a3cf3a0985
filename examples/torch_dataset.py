"""A PyTorch dataset of cutouts, made while the training asks for them: `python -m examples.torch_dataset FOLDER`.

In a program of yours:

    dataset = CutoutDataset("photos", "localhost:50051", preset="trellis")
    for names, images in cutout_loader(dataset, batch_size=8, workers=2):
        ...  # images: float32, (8, 4, 518, 518), 0 to 1

Needs cutstream with its extra `images`, and PyTorch, for which the wheels of https://download.pytorch.org/whl/cpu are
enough.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import cutstream

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


class CutoutDataset(IterableDataset[tuple[str, torch.Tensor]]):
    """Pairs of a path below a folder and the cutout of that image: float32, (4, H, W), RGBA, straight alpha, 0 to 1.

    Each worker of a DataLoader does every n-th image, in the order of the paths, so that all together do each once. An
    image that has no cutout (no object, a damaged file, one that the server fails on) is left out with a warning.

    Args:
        folder: searched for images with all folders below it, anew for each epoch.
        target: the server.
        window: images that each worker has on their way at once.
        options: of `cutstream.Client.stream`, such as preset="trellis". All cutouts must have one size for batches.

    Raises:
        cutstream.CutoutError: while iterating, when the server stayed away or overloaded for longer than the client
            retries: what it would have given must not be missing from an epoch without a word.
    """

    def __init__(self, folder: str, target: str, *, window: int = 8, **options: Unpack[cutstream.Options]) -> None:
        # Only what can be sent to another process: a client cannot, each worker makes its own.
        self._folder = folder
        self._target = target
        self._window = window
        self._options = options

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        paths = sorted(path for path in Path(self._folder).rglob("*") if path.suffix.lower() in SUFFIXES)
        worker = get_worker_info()
        share = paths if worker is None else paths[worker.id :: worker.num_workers]
        # 8-bit samples as they are: nothing to unpack here, and a quarter of the bytes of float32.
        options = cutstream.Options(output_format="raw", channels="rgba", sample_type="uint8") | self._options
        with cutstream.Client(self._target) as client:
            # In order, so that two epochs see the same batches; the window keeps the server busy nevertheless.
            for result in client.stream(share, window=self._window, ordered=True, **options):
                if isinstance(result, cutstream.Cutout):
                    yield result.image_id, as_tensor(result)
                elif result.retryable and result.reason != "INTERNAL_FAULT":
                    raise result
                else:
                    logger.warning("%s is left out: %s", result.image_id, result)


def as_tensor(cutout: cutstream.Cutout) -> torch.Tensor:
    """The samples (H, W, C) of 0 to 255 as float32, (C, H, W), 0 to 1."""
    # Copied, because the array is a view of the answer's bytes, which nobody may write to.
    samples = torch.tensor(cutout.array)
    return samples.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format) / 255


def cutout_loader(dataset: CutoutDataset, *, batch_size: int, workers: int) -> DataLoader[tuple[str, torch.Tensor]]:
    """A DataLoader whose workers are processes that never saw gRPC before.

    PyTorch forks them by default on Linux, and gRPC does not survive a fork: where this process used a client before,
    even one that is closed by now, a client in a forked worker raises RuntimeError. Spawned workers begin afresh, which
    takes some seconds; `persistent_workers` pays them once instead of for each epoch.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )


def main() -> None:
    """Goes through a folder once and says how fast that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="images, also in folders below it")
    parser.add_argument("--workers", type=int, default=2, help="processes that load; 0: this one")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--target", metavar="HOST:PORT", default="localhost:50051", help="the server")
    arguments = parser.parse_args()
    dataset = CutoutDataset(arguments.folder, arguments.target, preset="trellis")
    count, started = 0, time.monotonic()
    for names, images in cutout_loader(dataset, batch_size=arguments.batch, workers=arguments.workers):
        count += len(names)
        sys.stdout.write(f"{tuple(images.shape)} {images.dtype}, mean alpha {images[:, 3].mean():.3f}\n")
    sys.stdout.write(f"{count} images in {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main()
