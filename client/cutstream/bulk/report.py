"""`--report`: a page to look at what a run did; it needs no server, no network and nothing but a browser.

Beside the page lie the thumbnails, in `NAME_thumbnails/`; it refers to images and cutouts by relative paths, so that
all of them can be moved together.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from cutstream.bulk.compact import CompactMap, fingerprint
from cutstream.bulk.manifest import ERROR, OK, read_lines
from cutstream.bulk.report_page import page
from cutstream.bulk.report_thumbnails import Picture, make_thumbnails

MOST_DONE = MOST_FAILED = 10_000
"""Images on the page, of each kind: of more it shows a random choice."""
# The page shows filters of these without being asked, in this order.
_FIRST_COLUMNS = (
    "validation",
    "confidence",
    "object_coverage_ratio",
    "soft_edge_ratio",
    "edge_sharpness",
    "centering_score",
    "total_seconds",
)
_DIGITS = 5
_WEB = ("http://", "https://")
# Of cutouts: a browser shows these, and no raw samples.
_SHOWN_SUFFIXES = frozenset({".png", ".webp"})
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
    cutouts, file = _absolute(manifest.parent), _absolute(target)
    done, failed = _choose(manifest)
    lines = [line for _, line in sorted(done.kept + failed.kept, key=lambda pair: pair[0])]
    thumbnails = file.with_name(f"{file.stem}_thumbnails")
    data = {
        "title": cutouts.name,
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "totals": {"done": done.offered, "failed": failed.offered},
        "thumbnailFolder": f"{_quoted(thumbnails.name)}/",
        "thumbnails": make_thumbnails([_picture(line, cutouts) for line in lines], thumbnails),
        **_described(lines, cutouts, file.parent),
    }
    temporary = file.with_name(f".{file.name}.part")
    try:
        temporary.write_text(page(data), encoding="utf-8", newline="\n")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


class _Sample:
    """Some of the lines it is offered, each with the same chance (reservoir sampling, Vitter 1985, algorithm R)."""

    def __init__(self, size: int) -> None:
        self.kept: list[tuple[int, Line]] = []
        self.offered = 0
        self._size = size
        # The same manifest gives the same page, and so needs no new thumbnails.
        self._random = random.Random(0)  # noqa: S311 - not a secret

    def offer(self, number: int, line: Line) -> None:
        self.offered += 1
        if len(self.kept) < self._size:
            self.kept.append((number, line))
        elif (place := self._random.randrange(self.offered)) < self._size:
            self.kept[place] = (number, line)


def _choose(manifest: Path) -> tuple[_Sample, _Sample]:
    """The images that were cut out, and those that failed."""
    samples = {OK: _Sample(MOST_DONE), ERROR: _Sample(MOST_FAILED)}
    for number, line in _last_lines(manifest):
        samples[line["status"]].offer(number, line)
    return samples[OK], samples[ERROR]


def _last_lines(manifest: Path) -> Iterator[tuple[int, Line]]:
    """The line that counts of each image, with its number: a run that broke off may leave others."""
    last = CompactMap("Q")
    for number, line in enumerate(read_lines(manifest)):
        if line is not None:
            last.set(fingerprint(line["input"]), number)
    for number, line in enumerate(read_lines(manifest)):
        if line is not None and last.get(fingerprint(line["input"])) == number:
            yield number, line


def _shown_cutout(line: Line) -> str | None:
    output: str | None = line["output"]
    return output if output is not None and PurePosixPath(output).suffix in _SHOWN_SUFFIXES else None


def _picture(line: Line, cutouts: Path) -> Picture | None:
    """What the tile shows: the cutout, else the image; None when that is not on this machine."""
    output = _shown_cutout(line)
    if output is not None:
        return Picture(cutouts / output, line["sha256"])
    name = line["input"]
    return None if "://" in name else Picture(Path(name), f"{name}\0{line['size']}\0{line['mtime']}")


def _described(lines: Sequence[Line], cutouts: Path, base: Path) -> dict[str, Any]:
    """The images as the page's script reads them: one list for each property, in the same order."""
    inputs = [str(line["input"]) for line in lines]
    outputs = [_shown_cutout(line) for line in lines]
    folder = _common_folder(inputs)
    measured = [{**line.get("metrics", {}), **line.get("timings", {})} for line in lines]
    found = {name: None for values in measured for name in values}
    first = [name for name in _FIRST_COLUMNS if name in found]
    outcomes = [OK if line["status"] == OK else line["reason"] for line in lines]
    names = [*first, *(name for name in found if name not in first)]
    return {
        "folder": folder,
        "names": [name[len(folder) :] for name in inputs],
        "inputs": [_href(name, base) for name in inputs],
        "outputs": [None if output is None else _href(str(cutouts / output), base) for output in outputs],
        "messages": [_message(line) for line in lines],
        "crops": [_crop(line.get("crop")) for line in lines],
        "columns": [_column("outcome", outcomes)]
        + [_column(name, [of.get(name) for of in measured]) for name in names],
        # The outcome comes before them.
        "firstColumns": 1 + len(first),
    }


def _common_folder(paths: Sequence[str]) -> str:
    """What all paths begin with, up to a "/" or the system's separator."""
    common = os.path.commonprefix(list(paths))  # noqa: RUF071 - of addresses too; the next line ends it at a folder
    return common[: max(common.rfind("/"), common.rfind(os.sep)) + 1]


def _message(line: Line) -> str | None:
    if line["status"] == OK:
        return None
    metadata = ", ".join(f"{key}={value}" for key, value in sorted(line["metadata"].items()))
    return f"{line['message']} ({metadata})" if metadata else str(line["message"])


def _href(path: str, base: Path) -> str | None:
    """How a page in `base` refers to a file or address; None for what a browser cannot open."""
    if "://" in path:
        return path if path.startswith(_WEB) else None
    try:
        return _quoted(os.path.relpath(path, base).replace(os.sep, "/"))
    except ValueError:  # on another drive
        return Path(path).as_uri()


def _quoted(path: str) -> str:
    # As bytes: a file name need not be UTF-8.
    return quote(os.fsencode(path))


def _crop(crop: Mapping[str, float] | None) -> list[Any] | None:
    return None if not crop else [_short(crop[side]) for side in _CROP_SIDES]


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A column: numbers as they are, texts as indices into `texts`, which is sorted."""
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


def _absolute(path: Path) -> Path:
    """With links kept and ".." taken out, as a browser does it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - as above
