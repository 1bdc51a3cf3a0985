"""An example for `--downstream`: carves a hull from a folder of cutouts, knowing nothing but the folder's contents.

make eval-3d DOWNSTREAM='.venv/bin/python benchmarks/reconstruction/example_command.py {folder}'
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from skimage.measure import marching_cubes
from trimesh import Trimesh

SIDE = 96
HALF_EXTENT = 1.05


def main() -> None:
    """Reads cameras.json and the cutouts, writes mesh.ply."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    axis = np.linspace(-HALF_EXTENT, HALF_EXTENT, SIDE)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    kept = np.ones(len(points), bool)
    for view in json.loads((folder / "cameras.json").read_text()):
        alpha = np.asarray(cv2.imread(str(folder / view["file"]), cv2.IMREAD_UNCHANGED))[..., 3]
        matrix = np.array(view["intrinsics"]) @ np.array(view["world_to_camera"])
        seen = points @ matrix[:, :3].T + matrix[:, 3]
        columns, rows = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        inside = (columns >= 0) & (columns < view["width"]) & (rows >= 0) & (rows < view["height"])
        kept &= inside
        kept[inside] &= alpha[rows[inside], columns[inside]] > 127
    volume = np.pad(kept.reshape(SIDE, SIDE, SIDE), 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(volume, 0.5, gradient_direction="ascent")  # type: ignore[no-untyped-call]
    Trimesh((vertices - 1) * (axis[1] - axis[0]) - HALF_EXTENT, faces).export(folder / "mesh.ply")


if __name__ == "__main__":
    main()
