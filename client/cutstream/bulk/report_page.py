"""The report's page from its data: one file with style, script and data in it.

File names and messages come from anywhere. They are in the page as JSON only, in which nothing can end the script's
element; the script puts them there as text only; and the page's own policy runs no other code and asks no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources

_SCRIPTS = ("report.js", "report_filters.js", "report_sheet.js", "report_viewer.js")
_PLACE = "@@"


def page(data: Mapping[str, object]) -> str:
    """The whole page, in ASCII as far as the data goes.

    Args:
        data: what `report.js` reads, of JSON's types; ValueError for numbers that are not finite.
    """
    style, script = _part("report.css"), "".join(_part(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src 'self' file:; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )
    parts = {"policy": policy, "style": style, "script": script, "data": _embeddable(data)}
    # Split first and filled then: what is filled in is never searched for places.
    pieces = _part("report.html").split(_PLACE)
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _part(name: str) -> str:
    return resources.files("cutstream.bulk").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of Content Security Policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embeddable(data: Mapping[str, object]) -> str:
    """JSON in ASCII without "<": in an element `script`, nothing else has a meaning of its own."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
