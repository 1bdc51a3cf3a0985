"""The public surface: what may be imported, and that both clients offer all of the service."""

from __future__ import annotations

import importlib.resources
import inspect
import subprocess
import sys

import pytest

import cutstream
from cutstream.v1 import cutstream_pb2 as pb

METHODS_OF_RPCS = {"RemoveBackground": "remove", "StreamRemoveBackground": "stream", "GetServerInfo": "info"}
SURFACE = ["close", "info", "remove", "stream", "wait_ready"]


def test_the_exported_names_are_pinned():
    assert cutstream.__all__ == [
        "AsyncClient",
        "Box",
        "Centering",
        "Client",
        "CropBox",
        "Cutout",
        "CutoutError",
        "FieldViolation",
        "KeepAliveConfig",
        "LoadBalancingConfig",
        "Metrics",
        "ModelInfo",
        "Options",
        "PresetInfo",
        "RetryConfig",
        "ServerInfo",
        "ServerLimits",
        "StageDurations",
        "StreamImage",
        "TLSConfig",
        "TritonInfo",
    ]


def test_every_exported_name_exists_and_is_documented():
    assert [name for name in cutstream.__all__ if not getattr(cutstream, name).__doc__] == []


def test_every_rpc_is_wrapped():
    service = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"]
    assert {method.name for method in service.methods} == set(METHODS_OF_RPCS)
    assert set(METHODS_OF_RPCS.values()) <= set(SURFACE)


@pytest.mark.parametrize("kind", [cutstream.Client, cutstream.AsyncClient])
def test_the_methods_of_both_clients_are_pinned(kind):
    methods = [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]
    assert methods == SURFACE


@pytest.mark.parametrize("method", [*SURFACE, "__init__"])
def test_both_clients_take_the_same_arguments(method):
    blocking = inspect.signature(getattr(cutstream.Client, method)).parameters
    asynchronous = inspect.signature(getattr(cutstream.AsyncClient, method)).parameters
    assert [(p.name, p.kind, p.default) for p in blocking.values()] == [
        (p.name, p.kind, p.default) for p in asynchronous.values()
    ]


def test_the_package_is_typed():
    assert (importlib.resources.files("cutstream") / "py.typed").is_file()


def test_importing_the_library_and_its_command_line_imports_neither_numpy_nor_pillow():
    code = (
        "import sys, cutstream, cutstream.cli; print([m for m in ('numpy', 'PIL', 'cv2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
