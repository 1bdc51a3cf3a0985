"""The folder that the quantiser runs from: a virtual environment of its own, made when it is first needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from cutstream_server.segmentation.embedded.environment import PINS as TRITON_PINS
from cutstream_server.segmentation.preparation.errors import PreparationError
from cutstream_server.segmentation.preparation.progress import Report

PINS = (
    "nncf==3.4.0",
    # The engine that will run what is made here.
    *(pin for pin in TRITON_PINS if pin.startswith("openvino")),
    # Both carry photos, with which the network is calibrated and checked.
    "scikit-image==0.26.0",
    "scikit-learn==1.9.1",
)
LOCK = Path(__file__).with_name("requirements.txt")
"""The same with all that they need, and the hashes of the files. `make lock` writes it."""

FOLDER = Path(sys.prefix) / "quantiser"


def quantiser_python(report: Report) -> Path:
    """Gives the quantiser's Python; makes its environment when that is missing, unfinished or out of date.

    Raises:
        PreparationError: it cannot be made.
    """
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed.txt"
    if stamp.exists() and stamp.read_bytes() == LOCK.read_bytes():
        return python
    report.say(f"making the quantiser in {FOLDER}: {', '.join(PINS)} (200 MB to download, 750 MB on disk)")
    try:
        venv.create(FOLDER, clear=True, with_pip=True)
        # No more than the lock has: openvino-telemetry, which it leaves out, tells the makers of NNCF of each use.
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--only-binary=:all:", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)  # noqa: S603 - our own command
    except (OSError, subprocess.CalledProcessError) as error:
        raise PreparationError(f"the quantiser could not be installed: {error}; see pip's own words above") from error
    shutil.copy(LOCK, stamp)
    return python
