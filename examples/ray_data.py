"""Cutouts inside a Ray Data pipeline, from a folder or bucket to Parquet: `python -m examples.ray_data PHOTOS CUTOUTS`.

For files to files `cutstream bulk --engine ray` does more: it resumes, and writes a manifest. This is for pipelines in
which the cutout is one step of several. Needs cutstream with its extra `ray`.
"""

from __future__ import annotations

import argparse
from typing import Any

import ray.data

import cutstream


class CutOut:
    """A step of `map_batches`: adds the columns `cutout`, PNG bytes or empty, and `reason`, why it is empty."""

    def __init__(self, target: str) -> None:
        # Made in the worker, for a client cannot be sent to another process.
        self.client = cutstream.Client(target)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Does a batch in one stream, in order."""
        results = list(self.client.stream(batch["bytes"], ordered=True, preset="trellis"))
        batch["cutout"] = [result.data if isinstance(result, cutstream.Cutout) else b"" for result in results]
        batch["reason"] = ["" if isinstance(result, cutstream.Cutout) else result.reason for result in results]
        return batch


def main() -> None:
    """Goes through a folder once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", help="folder or URL of images")
    parser.add_argument("cutouts", metavar="CUTOUTS", help="folder or URL for the Parquet files")
    parser.add_argument("--workers", type=int, default=1, help="processes that call the server")
    parser.add_argument("--target", metavar="HOST:PORT", default="localhost:50051", help="the server")
    arguments = parser.parse_args()
    workers = ray.data.ActorPoolStrategy(size=arguments.workers)
    images = ray.data.read_binary_files(arguments.photos, include_paths=True)
    cutouts = images.map_batches(CutOut, fn_constructor_args=[arguments.target], batch_size=64, compute=workers)
    cutouts.drop_columns(["bytes"]).write_parquet(arguments.cutouts)


if __name__ == "__main__":
    main()
