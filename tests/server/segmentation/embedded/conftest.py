"""What the tests ask about processes and shared memory."""

import time
from pathlib import Path

import pytest

from cutstream_server.segmentation.embedded import runs
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton


def remains_of(run):
    """What is left of a run on this machine; nothing, if all is well."""
    regions = list(runs.SHARED_MEMORY.glob(f"{run.region_prefix}*"))
    folders = [run.folder] if run.folder.exists() else []
    return [*run.processes(), *regions, *folders]


def wait_until(condition, seconds=15.0):
    """Waits for a condition that another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def remains():
    return remains_of


@pytest.fixture
def until():
    return wait_until


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    """A folder of runs for this test alone."""
    monkeypatch.setattr(runs.tempfile, "gettempdir", lambda: str(tmp_path))
    return runs.runs_root()


@pytest.fixture
def foreign_region():
    """Shared memory of some other Triton, with the name that Triton gives it when it is told none."""
    region = Path(runs.SHARED_MEMORY, f"triton_python_backend_shm_region_{time.time_ns()}")
    region.write_bytes(b"foreign")
    yield region
    region.unlink(missing_ok=True)


@pytest.fixture
async def embedded(launch):
    """A supervised Triton of the test's own, which it may kill."""
    server = EmbeddedTriton(launch, stop_seconds=0)
    await server.start()
    yield server
    await server.stop()
