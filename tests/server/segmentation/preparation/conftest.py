"""A report that keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest


class KeptReport:
    """Lines that were said, and the bytes done and in all of each step of a transfer."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[int, int | None]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def transfer(self, label: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        return nullcontext(lambda done, total: self.steps.append((done, total)))


@pytest.fixture
def report() -> KeptReport:
    return KeptReport()
