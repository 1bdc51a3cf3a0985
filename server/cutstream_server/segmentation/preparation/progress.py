"""What a person sees while a model is prepared: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

# A log gets one line for each of these steps: eleven at most for a whole transfer.
_LOG_STEP_PERCENT = 10
_MEBIBYTE = 1024 * 1024

Advance = Callable[[int, int | None], None]
"""Takes the bytes that are there so far and the bytes in all, None while unknown."""


class Report(Protocol):
    """Where the preparation tells what it does."""

    def say(self, line: str) -> None:
        """Tell one thing that happened."""

    def transfer(self, label: str) -> AbstractContextManager[Advance]:
        """Open a transfer whose progress is shown until the context ends."""


class ConsoleReport:
    """A report on a rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Print one line, without markup."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def transfer(self, label: str) -> AbstractContextManager[Advance]:
        """Show a bar on a terminal and lines elsewhere."""
        return self._bar(label) if self._console.is_terminal else self._lines(label)

    @contextmanager
    def _bar(self, label: str) -> Iterator[Advance]:
        columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def _lines(self, label: str) -> Iterator[Advance]:
        shown = -1

        def advance(done: int, total: int | None) -> None:
            nonlocal shown
            step = 100 * done // total // _LOG_STEP_PERCENT if total else 0
            if step > shown:
                shown = step
                of_all = f" of {total / _MEBIBYTE:.0f} MiB" if total else " MiB"
                self.say(f"{label}: {done / _MEBIBYTE:.0f}{of_all}")

        yield advance
