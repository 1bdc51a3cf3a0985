"""Where cutouts go below OUT, decided before the run so that no two meet.

Paths here are relative, with "/" between folders. The rule, for the sources of one run in one folder:

- `cat.jpg` becomes `cat.png` (`.webp`, `.raw`) when no other source is called `cat` before its suffix;
- otherwise all of those keep their whole names: `cat.jpg` and `cat.tif` become `cat.jpg.png` and `cat.tif.png`.
  A source that is called as the rest of another, such as `cat.jpg` beside `cat.jpg.tif`, counts as such a neighbour.

It depends on the set of sources only, not on their order. Upper and lower case count as the same, because they are on
many disks.
"""

from __future__ import annotations

import os

from cutstream.bulk.compact import CompactMap, fingerprint

_ALONE, _SHARED = 1, 2


def output_name(relative: str, suffix: str, *, whole: bool) -> str:
    """The cutout's path below OUT: the source's with another suffix, or with one more behind its whole name."""
    return (relative if whole else _stem(relative)) + suffix


class Names:
    """The names of all sources of a run: first all are added, then all are compared, then each can be asked about.

    Takes 27 to 54 bytes for each source: only stems are kept, and whole names are looked for among them afterwards.
    """

    def __init__(self) -> None:
        self._sources = CompactMap("B")
        self._stems = CompactMap("B")

    def add(self, relative: str) -> bool:
        """Adds a source; False when it is there already."""
        # In its own case: two such files may lie side by side.
        if not self._sources.set(fingerprint(relative), _ALONE):
            return False
        stem = _claim(_stem(relative))
        self._stems.set(stem, _ALONE if self._stems.get(stem) is None else _SHARED)
        return True

    def compare(self, relative: str) -> None:
        """Once all are added: whether the whole name of this source is the stem of another."""
        whole = _claim(relative)
        if whole != _claim(_stem(relative)) and self._stems.get(whole) is not None:
            self._stems.set(whole, _SHARED)

    def is_shared(self, relative: str) -> bool:
        """Whether the short name of this source's cutout could be another's: it must keep its whole name."""
        return self._stems.get(_claim(_stem(relative))) == _SHARED


def _stem(relative: str) -> str:
    return os.path.splitext(relative)[0]  # noqa: PTH122 - a path of this module's kind, not of this system's


def _claim(name: str) -> int:
    return fingerprint(name.casefold())
