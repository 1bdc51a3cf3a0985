"""Runs an image-to-3D command on one shape's cutouts and reads its mesh; docs/reconstruction.md is the contract."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import trimesh
from benchmarks.quality.frame import Result
from benchmarks.reconstruction.cameras import Camera
from trimesh import Trimesh

# All that trimesh reads without further packages.
SUFFIXES: Final = (".glb", ".obj", ".ply", ".stl", ".off")
ERROR_CHARACTERS: Final = 500


class DownstreamError(Exception):
    """The command made no mesh of a shape; the message says why."""


@dataclass(frozen=True)
class Command:
    """An image-to-3D command.

    Attributes:
        line: the command; every {folder} in it becomes the folder with the cutouts, where it writes mesh.*.
        seconds: the longest that it may take for one shape.
    """

    line: str
    seconds: float

    def run(self, cutouts: Sequence[tuple[Camera, Result]], folder: Path) -> Trimesh:
        """Make a mesh of the cutouts of one shape in a folder, which is emptied first.

        Raises:
            DownstreamError: when the command fails, takes too long, or leaves no mesh.
        """
        write_cutouts(cutouts, folder)
        words = [word.replace("{folder}", str(folder.resolve())) for word in shlex.split(self.line)]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=self.seconds)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).decode(errors="replace")[-ERROR_CHARACTERS:]
            raise DownstreamError(f"exit status {error.returncode}: {said.strip()}") from error
        except subprocess.TimeoutExpired as error:
            raise DownstreamError(f"not done after {self.seconds:g} s") from error
        except OSError as error:
            raise DownstreamError(f"cannot start {words[0]}: {error.strerror}") from error
        return read_mesh(folder)


def write_cutouts(cutouts: Sequence[tuple[Camera, Result]], folder: Path) -> None:
    """Write 00.png, 01.png ... and cameras.json into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    views = []
    for index, (camera, result) in enumerate(cutouts):
        name = f"{index:02}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(result.rgba, cv2.COLOR_RGBA2BGRA))
        views.append({"file": name, **_camera_of_cutout(camera, result)})
    (folder / "cameras.json").write_text(json.dumps(views, indent=1))


def read_mesh(folder: Path) -> Trimesh:
    """Read mesh.* from a folder, vertices in one place made one.

    Raises:
        DownstreamError: when there is none, it cannot be read, or it has no faces.
    """
    found = [path for path in sorted(folder.glob("mesh.*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DownstreamError(f"no mesh.* of {', '.join(SUFFIXES)} in {folder}")
    try:
        mesh = trimesh.load_mesh(found[0])
    except Exception as error:  # trimesh has many readers, which raise what they like at a broken file
        raise DownstreamError(f"cannot read {found[0].name}: {error}") from error
    if not isinstance(mesh, Trimesh) or not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise DownstreamError(f"{found[0].name} holds no faces, or coordinates that are not finite")
    # Seams of texture and normals are no gaps.
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def _camera_of_cutout(camera: Camera, result: Result) -> dict[str, Any]:
    """The camera as if it had taken the cutout: OpenCV's convention, pixel i covers [i, i + 1)."""
    rows, columns = result.rgba.shape[:2]
    step_x, step_y = columns / result.crop.width, rows / result.crop.height
    x, y = camera.centre_px
    return {
        "width": columns,
        "height": rows,
        "intrinsics": [
            [camera.focal_px * step_x, 0, (x - result.crop.left) * step_x],
            [0, camera.focal_px * step_y, (y - result.crop.top) * step_y],
            [0, 0, 1],
        ],
        "world_to_camera": np.column_stack([camera.axes, -camera.axes @ camera.eye]).tolist(),
    }
