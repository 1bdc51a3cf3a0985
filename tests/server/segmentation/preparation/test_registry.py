"""The registry: what its tables must hold, and what is said about those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cutstream_server.segmentation.preparation.errors import UnknownModelNameError
from cutstream_server.segmentation.preparation.registry import REGISTRY_FILE, load_registry

TABLE = """
default = "one"
[models.one]
title = "One"
weights = "https://example.org"
good_at = "tests"
licence = "MIT"
commercial_use = true
interface = {{ side = 64, mean = [0, 0, 0], std = [1, 1, 1]{interface} }}
[[models.one.sources]]
name = "one"
file = "one.onnx"
{source}
"""
URL = 'url = "https://example.org/one.onnx"'


def load(folder: Path, *, interface: str = "", source: str = URL) -> object:
    file = folder / "models.toml"
    file.write_text(TABLE.format(interface=interface, source=source))
    return load_registry(file)


def test_the_registrys_own_file_is_valid() -> None:
    assert load_registry(REGISTRY_FILE).default == "isnet"


def test_a_table_with_all_that_is_needed_is_taken(tmp_path: Path) -> None:
    assert list(load(tmp_path).models) == ["one"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interface": ", sdt = 3"}, "sdt"),
        ({"interface": ", side_multiple = 48"}, "no multiple of 48"),
        ({"interface": ', activation = "min-max"'}, "output_range"),
        ({"interface": ", output_range = [0, 1]"}, "min-max"),
        ({"interface": ', activation = "min-max", output_range = [1, 0]'}, "smaller value"),
        ({"interface": ", resizes_follow_maps = true"}, "other_sides"),
        ({"source": ""}, "either a url or a wheel"),
        ({"source": 'url = "http://example.org"'}, "url"),
        ({"source": URL + '\nsha256 = "12"'}, "sha256"),
        ({"source": URL + '\nnpm = { package = "p", resource = "r" }'}, "archive_sha512"),
        ({"source": 'wheel = { package = "newest", member = "m" }'}, "package"),
    ],
)
def test_a_mistake_is_refused_with_its_key(change: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=message):
        load(tmp_path, **change)


def test_a_network_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UnknownModelNameError, match=r"'isnett'; it has isnet, u2net.*model add"):
        load_registry().entry("isnett")


def test_only_rmbg_forbids_commercial_use() -> None:
    entries = load_registry().models.items()
    assert [name for name, entry in entries if not entry.commercial_use] == ["rmbg-2.0"]
