"""docs/licences.md has a row for everything that is locked."""

import re
from pathlib import Path

import pytest

from cutstream_server.segmentation.embedded.environment import LOCK
from cutstream_server.segmentation.preparation.registry import load_registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "licences.md").read_text()
ROWS = {
    name: (versions, licence) for name, versions, licence in re.findall(r"^\| `(.+?)` \| (.+?) \| (.*?) \|", PAGE, re.M)
}


@pytest.mark.parametrize(
    "lock", [ROOT / "locks" / "client.txt", ROOT / "locks" / "server.txt", LOCK], ids=lambda p: p.stem
)
def test_every_locked_package_is_there_with_its_version(lock):
    packages = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock.read_text(), re.M)
    missing = [f"{n}=={v}" for n, v in packages if v not in ROWS.get(n, ("", ""))[0].split(", ")]
    assert missing == [], "run `make lock`"


def test_every_row_states_a_licence():
    assert [name for name, (_, licence) in ROWS.items() if not licence.strip()] == []


def test_the_published_weights_are_there_with_their_licence():
    for entry in load_registry().models.values():
        for source in entry.sources:
            assert f"| {source.name} | {entry.title} | {source.licence or entry.licence} |" in PAGE
