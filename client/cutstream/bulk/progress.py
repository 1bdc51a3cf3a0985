"""How a run is shown: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import datetime
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from cutstream.results import Metrics

_LINE_SECONDS = 5.0
_REDRAWS_PER_SECOND = 4
# "Current" is about the last twenty images.
_NEWEST_WEIGHT = 0.05


class RunProgress:
    """Counts what is done and shows it while it is entered. Several threads may report.

    Args:
        total: images of the run, those that are skipped included.
        console: where to show it.
    """

    def __init__(self, total: int, console: Console) -> None:
        self.succeeded = self.failed = 0
        # By an earlier run.
        self.done_before = self.failed_before = 0
        self._total = total
        self._console = console
        self._started = time.monotonic()
        self._confidence: float | None = None
        self._centering: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._lines = threading.Thread(target=self._print_lines, name="cutstream-progress", daemon=True)
        self._bar = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            refresh_per_second=_REDRAWS_PER_SECOND,
        )
        self._task = self._bar.add_task("", total=total, status="")

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._console.is_terminal:
            self._bar.start()
        else:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._console.is_terminal:
            self._bar.stop()
        else:
            self._lines.join()

    @property
    def done(self) -> int:
        """Images that need no more work in this run."""
        return self.succeeded + self.failed + self.done_before + self.failed_before

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._started

    def skip(self, *, failed: bool) -> None:
        """One image was done, or failed, in an earlier run."""
        with self._lock:
            self.failed_before += failed
            self.done_before += not failed
        self._draw()

    def finish(self, metrics: Metrics | None, *, failed: bool) -> None:
        """One image is finished and noted."""
        with self._lock:
            self.failed += failed
            self.succeeded += not failed
            if metrics is not None and not failed:
                self._confidence = _moved(self._confidence, metrics.confidence)
                self._centering = _moved(self._centering, metrics.centering.score if metrics.centering else None)
        self._draw()

    def status(self) -> str:
        """Rate, remaining time, failures, current confidence and centering."""
        worked = self.succeeded + self.failed
        parts = []
        if worked:
            rate = worked / self.seconds
            remaining = datetime.timedelta(seconds=round((self._total - self.done) / rate))
            parts += [f"{rate:.1f} images/s", f"{remaining} left"]
        parts.append(f"{self.failed} failed")
        if self._confidence is not None:
            parts.append(f"confidence {self._confidence:.2f}")
        if self._centering is not None:
            parts.append(f"centering {self._centering:.2f}")
        return ", ".join(parts)

    def _draw(self) -> None:
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self.done, status=self.status())

    def _print_lines(self) -> None:
        while not self._over.wait(_LINE_SECONDS):
            self._console.print(Text(f"{self.done}/{self._total}, {self.status()}"))


def _moved(mean: float | None, value: float | None) -> float | None:
    """The moving mean with one more value."""
    if value is None or mean is None:
        return value if mean is None else mean
    return mean + _NEWEST_WEIGHT * (value - mean)
