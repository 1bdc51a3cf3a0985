"""docs/options.md is generated."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("options_table", DOCS / "options_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "options.md").read_text() == module.page(), "run `make docs`"
