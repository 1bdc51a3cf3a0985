"""Triton and the server fail under a client: part of `make soak`, `python -m benchmarks.robustness.faults`.

All images go through one stream of the client library and must come back as cutouts while Triton is killed again and
again, each time some seconds after it was ready again, and stopped for a while; then while the server itself is
replaced. They are let go in portions, so that some are under way at every failure and some answered between two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.performance.machine import this_machine
from benchmarks.robustness.material import encoded, picture
from benchmarks.robustness.service import Service, running_service
from PIL import Image
from rich.console import Console
from rich.table import Table

import cutstream

OUT: Final = Path("out/robustness/faults.json")
SIZE: Final = (400, 300)
# After a portion has been let go, so that its images are under way.
BURST_SECONDS: Final = 0.1
READY_SECONDS: Final = 120
GOOD_SECONDS: Final = 3.0
STOPPED_SECONDS: Final = 10.0


@dataclass
class Run:
    """What came of a run: answers by reason, and how long each recovery took in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)


def under_kills(
    service: Service,
    images: int,
    kills: int,
    *,
    good_seconds: float = GOOD_SECONDS,
    stopped_seconds: float = STOPPED_SECONDS,
) -> Run:
    """Kill Triton that often, each time so long after it was ready, then stop it for a while."""

    def fail(run: Run, before_failure: Callable[[], None]) -> None:
        with cutstream.Client(service.target) as client:
            for _ in range(kills):
                before_failure()
                (triton,) = service.triton_processes()
                os.kill(triton, signal.SIGKILL)
                began = time.monotonic()
                _until(lambda victim=triton: service.triton_processes() not in ([], [victim]))  # type: ignore[misc]
                client.wait_ready(READY_SECONDS)
                run.recoveries.append(round(time.monotonic() - began, 1))
        before_failure()
        stopped = service.all_triton_processes()
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        time.sleep(stopped_seconds)
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    return _send(service, images, kills + 1, good_seconds, fail)


def under_replacements(service: Service, images: int, replacements: int, *, good_seconds: float = GOOD_SECONDS) -> Run:
    """Replace the server that often, in its place and with the same address."""

    def fail(run: Run, before_failure: Callable[[], None]) -> None:
        for _ in range(replacements):
            before_failure()
            began = time.monotonic()
            service.stop()
            service.start()
            run.recoveries.append(round(time.monotonic() - began, 1))

    return _send(service, images, replacements, good_seconds, fail)


def _send(
    service: Service,
    images: int,
    failures: int,
    good_seconds: float,
    fail: Callable[[Run, Callable[[], None]], None],
) -> Run:
    """Send images in one stream of the client library while things fail.

    Before each failure `fail` calls what it is given: that lets a portion of the images go, waits for as long as a
    failure is apart from the recovery before it, and lets another portion go just before it returns.
    """
    run, data = Run(), encoded(Image.fromarray(picture(*SIZE)), "JPEG")
    # The last portion is for the time after the last failure.
    portion = images // (2 * failures + 1)
    free = threading.Semaphore(0)

    def before_failure() -> None:
        free.release(portion)
        time.sleep(good_seconds - BURST_SECONDS)
        free.release(portion)
        time.sleep(BURST_SECONDS)

    def failing() -> None:
        try:
            fail(run, before_failure)
        finally:
            free.release(images)

    def pairs() -> Iterator[tuple[str, bytes]]:
        for number in range(images):
            free.acquire()
            yield str(number), data

    with cutstream.Client(service.target) as client, ThreadPoolExecutor(1) as thread:
        failed = thread.submit(failing)
        for result in client.stream(pairs(), model="tiny", output_width_px=64):
            reason = result.reason if isinstance(result, cutstream.CutoutError) else "cutout"
            run.answers[reason] += 1
        failed.result()
    return run


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("Triton does not come back")
        time.sleep(0.05)


def main() -> None:
    """Run both, print what came of them and write the report; the exit status tells whether the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images-under-kills", type=int, default=500)
    parser.add_argument("--replacements", type=int, default=5)
    parser.add_argument("--images-under-replacements", type=int, default=1000)
    arguments = parser.parse_args()
    console, machine = Console(width=120), this_machine()
    machine.show(console)
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        runs = {
            f"{arguments.kills} kills of Triton, then {STOPPED_SECONDS:.0f} s stopped": (
                under_kills(service, arguments.images_under_kills, arguments.kills),
                arguments.images_under_kills,
            ),
            f"{arguments.replacements} replacements of the server": (
                under_replacements(service, arguments.images_under_replacements, arguments.replacements),
                arguments.images_under_replacements,
            ),
        }
    table = Table("during", "images", "answers", "recoveries in s")
    for name, (run, images) in runs.items():
        answers = ", ".join(f"{reason}: {count}" for reason, count in run.answers.most_common())
        table.add_row(name, str(images), answers, ", ".join(map(str, run.recoveries)))
    console.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "runs": {name: vars(run) for name, (run, _) in runs.items()}}
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {OUT}")
    if any(run.answers != Counter(cutout=images) for run, images in runs.values()):
        raise SystemExit("The promise was not kept.")


if __name__ == "__main__":
    main()
