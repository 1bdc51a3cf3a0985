"""The lock files hold everything that the distributions ask for, by hash, and nothing of the machine that made them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cutstream_server.segmentation.embedded.environment import LOCK, PINS
from cutstream_server.segmentation.quantisation import environment as quantisation

ROOT = Path(__file__).parents[2]
LOCKS = {
    "client": ROOT / "locks" / "client.txt",
    "server": ROOT / "locks" / "server.txt",
    "triton": LOCK,
    "quantiser": quantisation.LOCK,
}


def locked(lock):
    """The versions of each package."""
    found = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def requirements(name):
    """What a distribution asks for, its extras included."""
    project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != "cutstream"]


@pytest.mark.parametrize("name", ["client", "server"])
def test_every_requirement_is_locked_at_a_version_that_it_allows(name):
    versions = locked(LOCKS[name])
    wrong = [
        str(requirement)
        for requirement in requirements(name)
        if not any(requirement.specifier.contains(v) for v in versions.get(canonicalize_name(requirement.name), []))
    ]
    assert wrong == [], "run `make lock`"


def test_the_client_may_be_installed_beside_the_server():
    client, server = locked(LOCKS["client"]), locked(LOCKS["server"])
    assert {name for name in client.keys() & server.keys() if client[name] != server[name]} == set()


def test_the_embedded_triton_is_locked_at_its_pins():
    assert {f"{name}=={version}" for name, (version,) in locked(LOCK).items()} == set(PINS), "run `make lock`"


def test_the_quantiser_is_locked_at_its_pins():
    pins = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in quantisation.PINS)}
    versions = locked(quantisation.LOCK)
    assert {name: versions[name] for name in pins} == {name: [version] for name, version in pins.items()}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_every_package_has_a_sha_256(lock):
    text = lock.read_text()
    entries = re.findall(r"^\S+==[^\n]*\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE)
    assert len(entries) == sum(map(len, locked(lock).values())) > 0


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_no_address_and_no_path_is_in_it(lock):
    lines = [line.strip() for line in lock.read_text().splitlines()]
    assert [line for line in lines if "://" in line or "/" in line.split("#")[0] or "cutstream @" in line] == []
    options = {line.split("=")[0] for line in lines if line.startswith("-")}
    assert options == {"--hash"}
