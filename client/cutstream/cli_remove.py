"""`cutstream remove`: which file goes where, and the run itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from cutstream.cli_output import error_json, json_line, print_error, to_json
from cutstream.cli_trace import Recording, show
from cutstream.errors import INVALID_OPTIONS, CutoutError
from cutstream.images import StreamImage
from cutstream.results import Cutout

if TYPE_CHECKING:
    from cutstream.client import Client
    from cutstream.options import Options

STANDARD = "-"
_FORMAT_OF_SUFFIX: Mapping[str, str] = {".png": "png", ".webp": "webp", ".raw": "raw"}
_FAILED, _WRONG_USAGE = 1, 2


@dataclass(frozen=True)
class Job:
    """One image: where from and where to; None is standard input or output."""

    source: Path | None
    destination: Path | None

    @property
    def name(self) -> str:
        """The source as people call it."""
        return "standard input" if self.source is None else str(self.source)


def format_of(output: str | None) -> str | None:
    """The format that the suffix of OUT asks for, if any."""
    return None if output is None else _FORMAT_OF_SUFFIX.get(Path(output).suffix.lower())


def plan(inputs: Sequence[str], output: str | None, output_format: str) -> list[Job]:
    """The jobs, checked before anything runs; makes OUT where it is a folder.

    Raises:
        typer.BadParameter: two cutouts would go to one place, or one onto an input, or standard output is a terminal.
    """
    sources = [None if name == STANDARD else Path(name) for name in inputs]
    if output == STANDARD or (output is None and sources == [None]):
        if len(sources) > 1:
            raise typer.BadParameter("standard output holds one cutout: give a folder with -o for several images")
        if sys.stdout.isatty():
            raise typer.BadParameter("standard output is a terminal: give a file with -o, or redirect it")
        return [Job(sources[0], None)]
    into_folder = output is not None and (len(sources) > 1 or output.endswith("/") or Path(output).is_dir())
    jobs = []
    for source in sources:
        name = f"{'stdin' if source is None else source.stem}.cutout.{output_format}"
        if output is None:
            destination = Path(name) if source is None else source.with_name(name)
        else:
            destination = Path(output) / name if into_folder else Path(output)
        jobs.append(Job(source, destination))
    _check_destinations(jobs)
    for job in jobs:
        if job.destination is not None:
            _make_folder(job.destination.parent)
    return jobs


def run(
    client: Client,
    jobs: Sequence[Job],
    options: Options,
    timeout_seconds: float,
    *,
    print_json: bool,
    open_result: bool,
    recording: Recording | None,
) -> int:
    """Runs the jobs and prints what became of each, and its trace if that is recorded; the exit code."""
    # Standard output may be the cutout's.
    out = Console(stderr=any(job.destination is None for job in jobs), soft_wrap=True)
    results = client.stream(_images(jobs), ordered=True, image_timeout_seconds=timeout_seconds, **options)
    exit_code = 0
    try:
        for job, result in zip(jobs, results, strict=True):
            saved = _save(job, result)
            if isinstance(saved, CutoutError):
                exit_code = _FAILED
                print_error(saved, job.name)
            elif not print_json:
                out.print(_line(job, saved))
            trace = recording.take(saved.image_id) if recording else None
            if print_json:
                ids = {"trace_id": trace.trace_id} if trace else {}
                out.print(Text(json_line({**_report(job, saved), **ids})))
            elif recording:
                # Below the line that it belongs to.
                console = Console(stderr=True, soft_wrap=True) if isinstance(saved, CutoutError) else out
                show(console, trace, saved.metrics.durations if saved.metrics else None)
            if open_result and isinstance(saved, Cutout) and job.destination is not None:
                typer.launch(str(job.destination))
    except CutoutError as error:
        print_error(error)
        return _WRONG_USAGE if error.reason == INVALID_OPTIONS else _FAILED
    return exit_code


def _images(jobs: Sequence[Job]) -> Iterator[StreamImage]:
    for job in jobs:
        yield StreamImage(sys.stdin.buffer.read(), "stdin") if job.source is None else StreamImage(job.source)


def _save(job: Job, result: Cutout | CutoutError) -> Cutout | CutoutError:
    """Writes the cutout, if there is one; a failure to write is the image's failure."""
    if isinstance(result, CutoutError) or not result.data:
        return result
    try:
        if job.destination is None:
            sys.stdout.buffer.write(result.data)
            sys.stdout.buffer.flush()
        else:
            result.save(job.destination)
    except OSError as error:
        return CutoutError("OUTPUT_UNWRITABLE", str(error), image_id=result.image_id, metrics=result.metrics)
    return result


def _report(job: Job, result: Cutout | CutoutError) -> dict[str, object]:
    if isinstance(result, CutoutError):
        return {"input": job.name, "status": "failed", **error_json(result)}
    destination = {"output": str(job.destination)} if job.destination is not None and result.data else {}
    return {"input": job.name, "status": "ok", **destination, **to_json(result)}


def _line(job: Job, cutout: Cutout) -> Text:
    line = Text(job.name)
    if cutout.data:
        line.append(f" -> {job.destination or 'standard output'}", style="bold")
        line.append(f"  {cutout.width_px} x {cutout.height_px}")
    durations = cutout.metrics.durations
    if durations is not None and durations.total_seconds is not None:
        line.append(f"  {durations.total_seconds:.2f} s", style="dim")
    if cutout.metrics.validation not in {None, "ok"}:
        line.append(f"  object {cutout.metrics.validation}", style="yellow")
    return line


def _check_destinations(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs if job.source is not None}
    taken: dict[Path, Job] = {}
    for job in jobs:
        assert job.destination is not None
        place = job.destination.resolve()
        if place in sources:
            raise typer.BadParameter(f"the cutout of {job.name} would overwrite the image {job.destination}")
        if place in taken:
            raise typer.BadParameter(
                f"the cutouts of {taken[place].name} and {job.name} would both be {job.destination}"
            )
        taken[place] = job


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"cannot make the folder {folder}: {error}") from error
