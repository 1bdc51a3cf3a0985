"""Every promise of docs/security.md names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", PAGE)))
TESTS = {
    name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name):
    assert name in TESTS or (ROOT / name).is_file()


def test_every_promise_names_a_test():
    table = PAGE.split("## Promises, each with its test")[1].split("\n\n")[1]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    assert rows
    assert [row[0] for row in rows if not re.search(r"`(test_|tests/)", row[2])] == []
