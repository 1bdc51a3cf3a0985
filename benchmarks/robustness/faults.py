"""Triton and the server fail under a client: part of `make soak`, `python -m benchmarks.robustness.faults`.

All images go through the client library and must come back as cutouts while Triton is killed again and again, each
time some seconds after it was ready again, and stopped for a while; then while the server itself is replaced.
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
# So that images are under way whenever something fails.
PAUSE_SECONDS: Final = 0.03
READY_SECONDS: Final = 120
GOOD_SECONDS: Final = 3.0
STOPPED_SECONDS: Final = 10.0


@dataclass
class Run:
    """What came of a run: answers by reason, and how long each recovery took in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)


def under_kills(service: Service, images: int, kills: int, stopped_seconds: float = STOPPED_SECONDS) -> Run:
    """Kill Triton that often, then stop it for a while."""

    def fail(run: Run) -> None:
        with cutstream.Client(service.target) as client:
            for _ in range(kills):
                time.sleep(GOOD_SECONDS)
                (triton,) = service.triton_processes()
                os.kill(triton, signal.SIGKILL)
                began = time.monotonic()
                _until(lambda victim=triton: service.triton_processes() not in ([], [victim]))  # type: ignore[misc]
                client.wait_ready(READY_SECONDS)
                run.recoveries.append(round(time.monotonic() - began, 1))
        stopped = service.triton_processes() + service.triton_processes("triton_python_backend_stub")
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        time.sleep(stopped_seconds)
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    return _send(service, images, fail)


def under_replacements(service: Service, images: int, replacements: int) -> Run:
    """Replace the server that often, in its place and with the same address."""

    def fail(run: Run) -> None:
        for _ in range(replacements):
            time.sleep(GOOD_SECONDS)
            began = time.monotonic()
            service.stop()
            service.start()
            run.recoveries.append(round(time.monotonic() - began, 1))

    return _send(service, images, fail)


def _send(service: Service, images: int, fail: Callable[[Run], None]) -> Run:
    """Send images in one stream of the client library until things have failed as often as they should."""
    run, data = Run(), encoded(Image.fromarray(picture(*SIZE)), "JPEG")
    failing = threading.Thread(target=fail, args=(run,), daemon=True)

    def pairs() -> Iterator[tuple[str, bytes]]:
        failing.start()
        for number in range(images):
            # The last tenth is kept for the time after the last failure.
            while number > 0.9 * images and failing.is_alive():
                time.sleep(PAUSE_SECONDS)
            time.sleep(PAUSE_SECONDS)
            yield str(number), data

    with cutstream.Client(service.target) as client:
        for result in client.stream(pairs(), model="tiny", output_width_px=64):
            reason = result.reason if isinstance(result, cutstream.CutoutError) else "cutout"
            run.answers[reason] += 1
    failing.join()
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
