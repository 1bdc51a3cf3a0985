"""`cutstream bulk`: from what was typed to a run, and what is said about it."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from cutstream.bulk import manifest as manifests
from cutstream.bulk.manifest import Done, Manifest, options_hash
from cutstream.bulk.parts import Parts
from cutstream.bulk.progress import RunProgress
from cutstream.bulk.ray_engine import ClusterError, RayRun, connected
from cutstream.bulk.run import BulkRun, RunSettings, StoppedError, max_image_bytes, stops_at_signals
from cutstream.bulk.sources import Filter, Listing, Plan, SourceError, list_sources
from cutstream.bulk.storage import LocalStorage, RemoteStorage, Storage, StorageError, open_storage
from cutstream.cli_output import print_error
from cutstream.config import RetryConfig
from cutstream.errors import INVALID_OPTIONS, CutoutError

if TYPE_CHECKING:
    from cutstream.cli_cluster import Cluster
    from cutstream.client import Client
    from cutstream.options import Options

_ALL_OK, _FAILED, _WRONG_USAGE, _INTERRUPTED = 0, 1, 2, 130
DEFAULT_FORMAT = "png"
# At the start a wrong address is likelier than a server that restarts.
_START_SECONDS = 10.0
# In the middle it is the other way round. The connection is given up before the images that wait for it are, so that an
# outage ends the run instead of failing one window of images after another.
_UNREACHABLE_SHARE = 2 / 3
_LISTED_STEP = 10_000
_ADDRESS_DIGITS = 8
# Loaded when asked for: it needs Pillow, which the rest does without.
_REPORT_MODULE = "cutstream.bulk.report"


@dataclass(frozen=True)
class Task:
    """What was asked for."""

    source: str
    output: str
    base: str | None
    include: Sequence[str]
    exclude: Sequence[str]
    options: Options
    window: int | None
    streams: int | None
    timeout_seconds: float
    resume: bool
    retry_failed: bool
    overwrite: bool
    report: Path | None
    cluster: Cluster | None
    """Where the run takes place; None: here."""

    @property
    def suffix(self) -> str:
        """Of the cutouts' files."""
        return "." + self.options.get("output_format", DEFAULT_FORMAT)


def patient(timeout_seconds: float) -> RetryConfig:
    """How a run tries again: whatever passes within the images' time costs none of them."""
    return RetryConfig(max_attempts=None, unreachable_seconds=timeout_seconds * _UNREACHABLE_SHARE)


@dataclass(frozen=True)
class _Output:
    """OUT: where cutouts go, and where the manifest is written."""

    storage: Storage
    folder: str
    manifest: Path

    @property
    def remote(self) -> RemoteStorage | None:
        """Where the manifest has to be copied to, because what is no disk cannot be appended to; None: nowhere."""
        return self.storage if isinstance(self.storage, RemoteStorage) else None

    @property
    def parts(self) -> Parts:
        """What the workers of a cluster note."""
        return Parts(self.storage, self.folder)

    @property
    def manifest_there(self) -> str:
        """Where the manifest belongs, in the storage."""
        return self.storage.join(self.folder, manifests.NAME)


def run(client: Client | None, task: Task) -> int:
    """Does the task and says how it went; the exit code.

    Args:
        client: of the service; None when the workers of a cluster start servers of their own.

    Raises:
        typer.BadParameter: something is wrong with SRC, OUT or the options; nothing has been done.
    """
    console = Console(stderr=True, soft_wrap=True)
    try:
        with contextlib.ExitStack() as opened:
            # First of all: Ray takes the signals that are wanted here later.
            ray = opened.enter_context(connected(task.cluster.address)) if task.cluster else None
            _check_report(task)
            output = _open_output(task)
            listing = list_sources(
                task.source, task.base, Filter(task.include, task.exclude), (output.storage, output.folder)
            )
            plan = opened.enter_context(Plan(listing, task.suffix, lambda count: _say_listed(console, count)))
            _check_not_empty(task, listing, plan)
            if client is not None:
                client.wait_ready(timeout_seconds=_START_SECONDS)
            return _run_plan(_Work(task, output, listing, plan, client, ray), console)
    except KeyboardInterrupt:  # while listing or connecting: nothing has been done
        return _INTERRUPTED
    except (SourceError, StorageError, ClusterError) as error:
        raise typer.BadParameter(str(error)) from error
    except CutoutError as error:
        print_error(error)
        return _WRONG_USAGE if error.reason == INVALID_OPTIONS else _FAILED


@dataclass(frozen=True)
class _Work:
    """A task that can begin."""

    task: Task
    output: _Output
    listing: Listing
    plan: Plan
    client: Client | None
    ray: Any
    """The module, connected; None: the run takes place here."""

    def begin(self, done: Done, manifest: Manifest, progress: RunProgress) -> BulkRun | RayRun:
        """Makes the run."""
        task, output, source = self.task, self.output, self.listing.storage
        settings = RunSettings(
            task.options,
            options_hash(task.options),
            task.window,
            task.streams,
            task.timeout_seconds,
            task.retry_failed,
            math.inf if self.client is None else max_image_bytes(self.client),
        )
        if task.cluster is None:
            assert self.client is not None
            return BulkRun(self.client, source, output.storage, output.folder, done, manifest, settings, progress)
        orders = task.cluster.orders(self.listing, output.storage.name(output.folder), task.suffix, settings)
        return RayRun(self.ray, orders, source, output.parts, done, manifest, progress, task.cluster.workers)


def _run_plan(work: _Work, console: Console) -> int:
    task, output, plan = work.task, work.output, work.plan
    progress = RunProgress(len(plan), console)
    problem: Exception | None = None
    cut_short = False
    with _open_manifest(task, output) as manifest:
        _take_parts(task, output, manifest)
        # Not before: the manifest may have been another run's until now.
        done = _read_done(task, output, work.listing)
        bulk = work.begin(done, manifest, progress)
        with progress, stops_at_signals(bulk, lambda text: console.print(Text(text))) as interrupted:
            try:
                bulk.execute(plan)
            except (StoppedError, CutoutError) as error:
                problem = error
            except KeyboardInterrupt:
                cut_short = True
        # While the manifest is open no other run writes to it.
        _finish_manifest(output, bulk, console)
    report_written = task.report is None or _write_report(output.manifest, task.report, console)
    _say_end(console, work, bulk, progress)
    if isinstance(problem, CutoutError):
        print_error(problem)
    elif problem is not None:
        console.print(Text.assemble(("error: ", "bold red"), str(problem)))
    is_complete = progress.done == len(plan)
    if not is_complete:
        console.print(Text(f"{len(plan) - progress.done} images are left: the same command with --resume does them"))
    if cut_short or (interrupted.is_set() and not is_complete):
        return _INTERRUPTED
    if isinstance(problem, CutoutError) and problem.reason == INVALID_OPTIONS:
        return _WRONG_USAGE
    failed = problem or progress.failed or progress.failed_before or work.listing.unreadable or not report_written
    return _FAILED if failed else _ALL_OK


def _open_output(task: Task) -> _Output:
    storage, folder = open_storage(task.output)
    if isinstance(storage, LocalStorage):
        output = _Output(storage, folder, Path(folder) / manifests.NAME)
    else:
        if task.report is not None:
            raise SourceError("--report shows cutouts of this machine: OUT must be a folder of it")
        address = sha256(storage.name(folder).encode()).hexdigest()[:_ADDRESS_DIGITS]
        output = _Output(storage, folder, Path(f"manifest-{address}.jsonl").absolute())
    try:
        there = storage.facts(output.manifest_there)
        exists = output.manifest.exists() or there is not None
        if task.resume and there is not None and output.remote is not None:
            # The longer one is the later one: another machine may have gone on, or this one's run was cut short.
            here = output.manifest.stat().st_size if output.manifest.exists() else 0
            if there.size > here:
                # Opened to keep other runs out.
                with Manifest(output.manifest, keep=True):
                    output.remote.download(output.manifest_there, output.manifest)
    except OSError as error:
        raise SourceError(f"cannot use {task.output}: {error.strerror or error}") from error
    if exists and not task.resume and not task.overwrite:
        raise _has_a_manifest(task)
    return output


def _has_a_manifest(task: Task) -> SourceError:
    return SourceError(
        f"{task.output} has the {manifests.NAME} of an earlier run: --resume does what that left, --overwrite does "
        "everything again"
    )


def _check_not_empty(task: Task, listing: Listing, plan: Plan) -> None:
    if not len(plan) and not listing.unreadable:
        raise SourceError(f"no images in {task.source}: --include takes other names than the usual ones")


def _read_done(task: Task, output: _Output, listing: Listing) -> Done:
    if not task.resume:
        return Done()
    base = listing.storage.name(listing.base)
    try:
        return manifests.read_done(output.manifest, base)
    except manifests.OtherSourceError as error:
        raise SourceError(
            f"{task.output} has cutouts of other images, such as {error}, and not only of what is below {base}: take "
            "another OUT, or --base"
        ) from error
    except OSError as error:
        raise SourceError(f"cannot read {output.manifest}: {error.strerror}") from error


@contextlib.contextmanager
def _open_manifest(task: Task, output: _Output) -> Iterator[Manifest]:
    with contextlib.ExitStack() as opened:
        try:
            manifest = opened.enter_context(Manifest(output.manifest, keep=not task.overwrite))
            if not task.resume and not manifest.is_empty:  # of a run that began and ended while this one listed images
                raise _has_a_manifest(task)
            if output.remote is not None and (not task.resume or output.remote.facts(output.manifest_there) is None):
                # A store that takes nothing is to be known before the images are paid for.
                output.remote.write(output.manifest_there, b"")
        except OSError as error:
            raise SourceError(
                f"cannot write {output.manifest} in {output.folder}: {error.strerror or error}"
            ) from error
        yield manifest


def _take_parts(task: Task, output: _Output, manifest: Manifest) -> None:
    """Merges what the workers of a run on a cluster noted, whose command was killed; --overwrite wants none of it."""
    try:
        for _ in output.parts.merge(manifest) if task.resume else ():
            pass
        output.parts.end()
    except OSError as error:
        raise SourceError(f"cannot merge the notes of an earlier run in {output.folder}: {error}") from error


def _finish_manifest(output: _Output, bulk: BulkRun | RayRun, console: Console) -> None:
    """Leaves one line for each image, where the manifest belongs."""
    try:
        if bulk.needs_compacting:
            manifests.compact(output.manifest)
        if output.remote is not None:
            output.remote.upload(output.manifest, output.manifest_there)
    except OSError as error:
        # All lines are in the file that was written; the next run tries this again.
        console.print(Text.assemble(("warning: ", "bold yellow"), f"cannot tidy up {output.manifest}: {error}"))


def _check_report(task: Task) -> None:
    """Before the run, which may take days, and not after it."""
    if task.report is None:
        return
    try:
        importlib.import_module(_REPORT_MODULE)
        task.report.parent.mkdir(parents=True, exist_ok=True)
    except ImportError as error:
        raise SourceError(str(error)) from error
    except OSError as error:
        raise SourceError(f"cannot write {task.report}: {error.strerror}") from error
    page, source, output = (os.path.realpath(path) for path in (task.report, task.source, task.output))
    if Path(source).is_dir() and Path(page).is_relative_to(source) and not Path(page).is_relative_to(output):
        raise SourceError(
            f"--report {task.report} lies among the images: the next run would take its thumbnails for some"
        )


def _write_report(manifest: Path, target: Path, console: Console) -> bool:
    """Whether the page could be written; the cutouts are there all the same."""
    from cutstream.bulk.report import write_report

    try:
        write_report(manifest, target)
    except OSError as error:
        console.print(Text.assemble(("error: ", "bold red"), f"cannot write the report {target}: {error}"))
        return False
    console.print(Text(f"report: {target}"))
    return True


def _say_listed(console: Console, count: int) -> None:
    if count and count % _LISTED_STEP == 0:
        console.print(Text(f"{count} images listed"))


def _say_end(console: Console, work: _Work, bulk: BulkRun | RayRun, progress: RunProgress) -> None:
    plan, output = work.plan, work.output
    for path, error in work.listing.unreadable:
        console.print(Text.assemble(("error: ", "bold red"), f"cannot list the folder {path}: {error}"))
    parts = [f"{progress.succeeded} ok", f"{progress.failed} failed"]
    if progress.done_before:
        parts.append(f"{progress.done_before} done before")
    if progress.failed_before:
        parts.append(f"{progress.failed_before} failed before")
    if plan.duplicates:
        parts.append(f"{plan.duplicates} listed twice")
    console.print(Text(f"{', '.join(parts)}, of {len(plan)} images in {progress.seconds:.1f} s; see {output.manifest}"))
    if bulk.reasons:
        counts = ", ".join(f"{count} {reason}" for reason, count in bulk.reasons.most_common())
        console.print(Text(f"failed: {counts}"))
    if progress.failed or progress.failed_before:
        console.print(Text("the same command with --retry-failed tries the failed ones again"))
