"""The Ray Data example on a cluster of this machine alone."""

import os
import subprocess
import sys

import pyarrow.parquet
import pytest
from running import ROOT


@pytest.mark.timeout(600)
def test_a_folder_becomes_a_table_of_cutouts_and_reasons(server, square, tmp_path):
    photos, table = tmp_path / "photos", tmp_path / "table"
    photos.mkdir()
    for number in range(5):
        (photos / f"{number}.png").write_bytes(square(40 + 4 * number))
    (photos / "broken.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "examples.ray_data", str(photos), str(table), "--target", server.target]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["path"].rpartition("/")[2]: row for row in pyarrow.parquet.read_table(table).to_pylist()}
    assert {name: row["reason"] for name, row in rows.items()} == {
        **{f"{number}.png": "" for number in range(5)},
        "broken.png": "UNSUPPORTED_FORMAT",
    }
    assert all(row["cutout"].startswith(b"\x89PNG") == (name != "broken.png") for name, row in rows.items())
