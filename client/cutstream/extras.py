"""numpy and Pillow, imported only when an image or an array is asked for: the library works without them."""

from __future__ import annotations

import importlib
from typing import Any


def import_numpy() -> Any:
    """The module numpy; ImportError says how to get it."""
    return _import("numpy")


def import_pillow() -> Any:
    """The module PIL.Image; ImportError says how to get it."""
    return _import("PIL.Image")


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("images and arrays need Pillow and numpy: pip install pillow numpy") from error
