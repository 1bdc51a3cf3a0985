"""What the console shows: a bar on a terminal, few lines in a log."""

from __future__ import annotations

import io

from rich.console import Console

from cutstream_server.segmentation.preparation.progress import ConsoleReport

MEBIBYTE = 1024 * 1024


def shown(done_steps: list[int], total: int | None, *, terminal: bool) -> str:
    output = io.StringIO()
    report = ConsoleReport(Console(file=output, force_terminal=terminal, width=120))
    with report.transfer("weights.bin") as advance:
        for done in done_steps:
            advance(done, total)
    return output.getvalue()


def test_a_log_gets_a_line_for_each_tenth() -> None:
    lines = shown([step * MEBIBYTE for step in range(101)], 100 * MEBIBYTE, terminal=False).splitlines()
    assert lines == [f"weights.bin: {step} of 100 MiB" for step in range(0, 101, 10)]


def test_a_log_gets_one_line_when_the_size_is_unknown() -> None:
    assert shown([0, MEBIBYTE, 2 * MEBIBYTE], None, terminal=False) == "weights.bin: 0 MiB\n"


def test_a_terminal_gets_a_bar_with_the_name() -> None:
    output = shown([50 * MEBIBYTE], 100 * MEBIBYTE, terminal=True)
    assert "weights.bin" in output
    assert "━" in output


def test_a_line_is_printed_as_it_is() -> None:
    output = io.StringIO()
    line = "[red]" + "x" * 200
    ConsoleReport(Console(file=output, width=80)).say(line)
    assert output.getvalue() == f"{line}\n"
