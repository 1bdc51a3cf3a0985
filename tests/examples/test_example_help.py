"""Every example says how it is run."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from running import ROOT

NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "photos")


def test_all_examples_are_known():
    assert NAMES == ["asyncio_service", "demo", "object_storage", "ray_data", "torch_dataset", "trellis_preprocess"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_it_is_run(name):
    if name == "torch_dataset" and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    command = [sys.executable, "-m", f"examples.{name}", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert f"examples.{name}" in result.stdout
