"""Photos that come with scikit-image, for demos and tests that need no download: `python -m examples.photos NAME`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def photo_path(name: str) -> Path:
    """Gives the file of a photo of scikit-image's wheel: astronaut, chelsea, coffee, rocket.

    Raises:
        FileNotFoundError: when scikit-image is not installed or has no such photo.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise FileNotFoundError("scikit-image is not installed; `make setup` does that")
    folder = Path(package.origin).parent / "data"
    for path in sorted(folder.glob(f"{name}.*")):
        return path
    raise FileNotFoundError(f"{folder} has no photo {name!r}")


if __name__ == "__main__":
    sys.stdout.write(f"{photo_path(sys.argv[1])}\n")
