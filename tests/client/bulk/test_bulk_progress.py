"""What is shown of a run."""

from __future__ import annotations

import io

from rich.console import Console

from cutstream.bulk import progress as progress_module
from cutstream.bulk.progress import RunProgress
from cutstream.results import Centering, Metrics


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=150)


def test_it_counts_what_is_done():
    progress = RunProgress(10, console(terminal=False))
    progress.skip(failed=False)
    progress.skip(failed=True)
    progress.finish(None, failed=True)
    progress.finish(Metrics(), failed=False)
    assert (progress.succeeded, progress.failed, progress.done_before, progress.failed_before) == (1, 1, 1, 1)
    assert progress.done == 4


def test_the_status_has_rate_remaining_time_failures_confidence_and_centering(monkeypatch):
    progress = RunProgress(31, console(terminal=False))
    monkeypatch.setattr(RunProgress, "seconds", 5.0)
    for _ in range(9):
        progress.finish(Metrics(confidence=0.9, centering=Centering(score=0.5)), failed=False)
    progress.finish(None, failed=True)
    progress.skip(failed=False)
    # 10 in 5 s; of 31, 20 are left.
    assert progress.status() == "2.0 images/s, 0:00:10 left, 1 failed, confidence 0.90, centering 0.50"


def test_the_current_confidence_follows_the_newest_images():
    progress = RunProgress(200, console(terminal=False))
    for value in [0.2] * 100 + [0.8] * 100:
        progress.finish(Metrics(confidence=value), failed=False)
    assert "confidence 0.80" in progress.status()


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress_module, "_LINE_SECONDS", 0.01)
    plain = console(terminal=False)
    with RunProgress(5, plain) as progress:
        progress.finish(None, failed=True)
        while "\n" not in plain.file.getvalue():
            pass
    assert plain.file.getvalue().splitlines()[-1].startswith("1/5, ")
    assert "\x1b" not in plain.file.getvalue()


def test_on_a_terminal_there_is_a_bar():
    terminal = console(terminal=True)
    with RunProgress(5, terminal) as progress:
        progress.finish(Metrics(confidence=0.75), failed=False)
    assert "1/5" in terminal.file.getvalue()
    assert "confidence 0.75" in terminal.file.getvalue()
