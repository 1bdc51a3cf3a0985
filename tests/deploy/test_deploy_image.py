"""The Dockerfile and what it installs. Nothing here builds it: that takes an engine."""

import re
import subprocess
import sys
from pathlib import Path

from running import ROOT

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def test_hadolint_has_nothing_to_say():
    run = subprocess.run([HADOLINT, DOCKERFILE], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout


def test_packages_are_installed_by_the_hashes_of_the_lock():
    assert "--require-hashes --requirement /server.txt" in DOCKERFILE.read_text()
    assert "COPY locks/server.txt /\n" in DOCKERFILE.read_text()


def test_no_torch_is_installed():
    assert not re.search(r"^torch\b", (ROOT / "locks" / "server.txt").read_text(), re.MULTILINE)


def test_it_runs_as_somebody_with_a_number_other_than_root():
    users = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users[0] == users[-1] == "${CUTSTREAM_UID}"
    assert "ARG CUTSTREAM_UID=10001" in DOCKERFILE.read_text()


def test_every_copied_path_is_let_through_to_the_build():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in re.findall(r"^COPY (?:--chmod=\d+ )?(?!--from)(\S+) ", DOCKERFILE.read_text(), re.MULTILINE):
        assert (ROOT / source).exists()
        assert any(source == place or source.startswith(f"{place}/") for place in allowed)
