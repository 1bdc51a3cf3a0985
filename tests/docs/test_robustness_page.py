"""Every promise of docs/robustness.md names tests that are there."""

import re
from pathlib import Path

import pytest

from cutstream_server.limits import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "robustness.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+|[\w/]+/test_\w+\.py)`", PAGE)))
TESTS = {
    name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
}


def rows_of(heading):
    """The rows of the first table below a heading: lists of their cells."""
    table = re.search(r"(\|.*\n)+", PAGE.split(f"## {heading}\n")[1]).group()
    return [line.strip("|").split("|") for line in table.splitlines()[2:]]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name):
    assert name in TESTS or (ROOT / "tests" / name).is_file()


@pytest.mark.parametrize("heading", ["Limits before work", "Triton"])
def test_every_promise_names_a_test(heading):
    rows = rows_of(heading)
    assert rows
    assert [row[0] for row in rows if not re.search(r"`.*test_", row[-1])] == []


def test_every_limit_is_on_the_page():
    settings = {name for row in rows_of("Limits before work") for name in re.findall(r"`(\w+)`", row[1])}
    assert settings == set(Limits.model_fields)
