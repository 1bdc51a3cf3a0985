"""`--report`: a page to look at what a run did; it needs no server, no network and nothing but a browser.

The page is `report.html` with `report.css`, `report.js` and the data of the run in it; beside it lie the thumbnails, in
`NAME_thumbnails/`, and it refers to images and cutouts by relative paths.

File names and messages come from anywhere. They are in the page as JSON only, in which nothing can end the script's
element, the code puts them there as text only, and the page's own policy runs no other code and asks no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cutstream.bulk.compact import CompactMap, fingerprint
from cutstream.bulk.manifest import ERROR, OK, read_lines
from cutstream.bulk.report_thumbnails import make_thumbnails

MOST_FAILED = MOST_DONE = 10_000
"""Images on the page, of each kind: of more it shows a random choice."""
# The page shows the histograms of these without being asked, in this order.
_FIRST_COLUMNS = (
    "confidence",
    "object_coverage_ratio",
    "soft_edge_ratio",
    "centering_score",
    "edge_sharpness",
    "component_count",
    "total_seconds",
)
_DIGITS = 5
_ADDRESSES = ("http://", "https://")
_CROP_SIDES = ("left_px", "top_px", "width_px", "height_px")

Line = Mapping[str, Any]


def write_report(manifest: Path, target: Path) -> None:
    """Writes the page of a manifest, and its thumbnails; both replace what an earlier report left.

    Args:
        manifest: `manifest.jsonl` in the folder of the cutouts.
        target: the page; its folder is made. Thumbnails go to `NAME_thumbnails/` beside it.

    Raises:
        OSError: the manifest cannot be read, or something cannot be written.
    """
    chosen = _choose(manifest)
    cutouts, page = _absolute(manifest.parent), _absolute(target)
    folder = page.with_name(f"{page.stem}_thumbnails")
    names = make_thumbnails([_picture(line, cutouts) for line in chosen.lines], folder)
    data = _page_data(chosen, cutouts, page.parent) | {
        "thumbnails": [None if name is None else f"{quote(folder.name)}/{name}" for name in names],
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    temporary = page.with_name(f".{page.name}.part")
    temporary.write_text(_page(data), encoding="utf-8")
    temporary.replace(page)


@dataclass
class _Chosen:
    """What the page shows of a manifest."""

    lines: list[Line] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of all images: "ok" or the reason."""


def _choose(manifest: Path) -> _Chosen:
    """Every image, or a fair choice of the failed and of the others, in the manifest's order."""
    chosen = _Chosen()
    samples = {OK: _Sample(MOST_DONE), ERROR: _Sample(MOST_FAILED)}
    for number, line in _last_lines(manifest):
        chosen.outcomes[_outcome(line)] += 1
        samples[line["status"]].offer(number, line)
    kept = sorted(samples[OK].kept + samples[ERROR].kept, key=lambda pair: pair[0])
    chosen.lines = [line for _, line in kept]
    return chosen


def _last_lines(manifest: Path) -> Iterator[tuple[int, Line]]:
    """The line that counts of each image, with its number."""
    last = CompactMap("Q")
    for number, line in enumerate(read_lines(manifest)):
        if line is not None:
            last.set(fingerprint(line["input"]), number)
    for number, line in enumerate(read_lines(manifest)):
        if line is not None and last.get(fingerprint(line["input"])) == number:
            yield number, line


class _Sample:
    """Some of what it is offered, each with the same chance (reservoir sampling, Vitter 1985, algorithm R)."""

    def __init__(self, size: int) -> None:
        self.kept: list[tuple[int, Line]] = []
        self._size = size
        self._offered = 0
        # The same manifest gives the same page, and so needs no new thumbnails.
        self._random = random.Random(0)  # noqa: S311 - not a secret

    def offer(self, number: int, line: Line) -> None:
        self._offered += 1
        if len(self.kept) < self._size:
            self.kept.append((number, line))
        elif (place := self._random.randrange(self._offered)) < self._size:
            self.kept[place] = (number, line)


def _outcome(line: Line) -> str:
    return OK if line["status"] == OK else str(line["reason"])


def _picture(line: Line, cutouts: Path) -> Path | None:
    """What the tile shows: the cutout, or the image that failed; None when it is not on this machine."""
    if line["output"] is not None:
        return cutouts / str(line["output"])
    return None if "://" in line["input"] else Path(line["input"])


def _page_data(chosen: _Chosen, cutouts: Path, base: Path) -> dict[str, Any]:
    """The run as the page's script reads it: one list for each property, in the order of the images."""
    lines = chosen.lines
    inputs = [str(line["input"]) for line in lines]
    folder = _common_folder(inputs)
    return {
        "title": cutouts.name,
        "folder": folder,
        "names": [name[len(folder) :] for name in inputs],
        "inputs": [_href(name, base) for name in inputs],
        "outputs": [None if line["output"] is None else _href(str(cutouts / line["output"]), base) for line in lines],
        "messages": [line.get("message") for line in lines],
        "crops": [_crop(line.get("crop")) for line in lines],
        "outcomes": dict(chosen.outcomes.most_common()),
        "columns": _columns(lines),
    }


def _common_folder(paths: Sequence[str]) -> str:
    """What all paths begin with, up to a "/" or the system's separator."""
    common = os.path.commonprefix(list(paths))
    return common[: max(common.rfind("/"), common.rfind(os.sep)) + 1]


def _href(path: str, base: Path) -> str | None:
    """How a page in `base` refers to a file or address; None for what a browser cannot open."""
    if "://" in path:
        return path if path.startswith(_ADDRESSES) else None
    relative = os.path.relpath(path, base)
    # As bytes: a name need not be UTF-8.
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _crop(crop: Mapping[str, float] | None) -> list[Any] | None:
    return None if crop is None else [_short(crop[side]) for side in _CROP_SIDES]


def _columns(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The outcome, then metrics and timings: numbers as they are, texts as indices into `texts`."""
    measured = [{**line.get("metrics", {}), **line.get("timings", {})} for line in lines]
    found = {name: None for values in measured for name in values}
    first = [name for name in _FIRST_COLUMNS if name in found]
    names = [*first, *(name for name in found if name not in first)]
    outcome = _column("outcome", [_outcome(line) for line in lines])
    return [outcome, *(_column(name, [values.get(name) for values in measured]) for name in names)]


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values):
        return {"name": name, "values": [_short(value) for value in values]}
    texts = [None if value is None else _text(value) for value in values]
    index = {text: number for number, text in enumerate(sorted({text for text in texts if text is not None}))}
    return {"name": name, "texts": list(index), "values": [None if text is None else index[text] for text in texts]}


def _text(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _short(value: float | None) -> float | None:
    """A number in few characters; None for what JSON cannot hold."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _page(data: Mapping[str, Any]) -> str:
    style, script = _part("report.css"), _part("report.js")
    policy = f"default-src 'none'; img-src 'self' file:; style-src {_digest(style)}; script-src {_digest(script)}"
    parts = {"policy": policy, "style": style, "script": script, "data": _embeddable(data)}
    # Split first and filled then: what is filled in is never searched for places.
    pieces = _part("report.html").split("@@")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _part(name: str) -> str:
    return resources.files("cutstream.bulk").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of Content Security Policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embeddable(data: Mapping[str, Any]) -> str:
    """JSON in ASCII without "<": in an element `script`, nothing else has a meaning of its own."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _absolute(path: Path) -> Path:
    """With links kept and ".." taken out, as a browser does it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - as above
