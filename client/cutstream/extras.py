"""numpy, Pillow and Ray, imported only when something asks for them: the library works without them."""

from __future__ import annotations

import importlib
import os
from typing import Any


def import_numpy() -> Any:
    """The module numpy; ImportError says how to get it."""
    return _import("numpy")


def import_pillow() -> Any:
    """The module PIL.Image; ImportError says how to get it."""
    return _import("PIL.Image")


def import_ray() -> Any:
    """The module ray, with ray.data; ImportError says how to get it."""
    # Ray reports its use to its makers unless told otherwise, and logs to our output; it reads this when imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("a run on a cluster needs Ray Data: pip install 'ray[data]'") from error


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("images and arrays need Pillow and numpy: pip install pillow numpy") from error
