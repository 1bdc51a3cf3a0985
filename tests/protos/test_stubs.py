"""The stubs in the client are generated from protos/."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = ["cutstream_pb2.py", "cutstream_pb2.pyi", "cutstream_pb2_grpc.py", "cutstream_pb2_grpc.pyi"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stubs")
    subprocess.run([ROOT / "protos" / "generate", folder], check=True)
    return folder / "cutstream" / "v1"


@pytest.mark.parametrize("name", STUBS)
def test_the_stub_is_fresh(generated, name):
    assert (ROOT / "client/cutstream/v1" / name).read_text() == (generated / name).read_text(), "run `make proto`"
