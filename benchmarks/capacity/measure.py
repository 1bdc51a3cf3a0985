"""Real runs of 1, 2 and 3 servers on this machine with the tiny network: `python -m benchmarks.capacity.measure`.

For each number of servers, in turn and several times: as many images as they take, then the arrivals of a Poisson
process at a part of that rate. Written to out/bench/capacity.json are throughput, latencies, and CPU seconds of every
part, by which `python -m benchmarks.capacity.compare` feeds the simulation. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import cv2
import numpy as np
from benchmarks.capacity.replicas import HOSTS, Replica, running_replicas
from benchmarks.robustness.service import TICKS

OUT: Final = Path("out/bench/capacity.json")
IMAGES: Final = 400
ROUNDS: Final = 3
# Of the highest throughput: queues are seen, and do not grow without end.
LOAD: Final = 0.6
SIDE_PX: Final = 512
WARM_UP_IMAGES: Final = 40


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far: of the servers' event loops, of their workers and decoders, of Triton, and of the machine."""

    loop: float
    work: float
    network: float
    machine: float

    def since(self, earlier: Cpu) -> dict[str, float]:
        """What was added."""
        mine, theirs = asdict(self), asdict(earlier)
        return {name: mine[name] - theirs[name] for name in mine}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of each run; default {IMAGES}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default {OUT}")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder, running_replicas(Path(folder)) as replicas:
        picture = draw(Path(folder) / "picture.jpg")
        load(replicas, WARM_UP_IMAGES * len(HOSTS), picture)
        # In turn, so that a change of the machine's other work meets each of them.
        for _ in range(arguments.rounds):
            for count in range(1, len(HOSTS) + 1):
                fast = measured(replicas[:count], arguments.images, picture)
                rate = LOAD * fast["images"] / fast["seconds"]
                runs += [fast, measured(replicas[:count], arguments.images, picture, rate)]
                print(f"{count} servers: {rate / LOAD:.1f} images/s, {fast['available']:.2f} cores to be had")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"cores": os.cpu_count(), "runs": runs}, indent=1) + "\n")
    print(f"Written: {arguments.out}")


def draw(path: Path) -> Path:
    """A picture with the noise of a photo; the tiny network takes its red square for the object."""
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 60.0)
    pixels[SIDE_PX // 4 : -SIDE_PX // 4, SIDE_PX // 4 : -SIDE_PX // 4, 2] = 250
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    cv2.imwrite(str(path), np.clip(pixels + noise, 0, 255).astype(np.uint8))
    return path


def measured(replicas: Sequence[Replica], images: int, picture: Path, rate: float | None = None) -> dict[str, Any]:
    """One run with what it cost."""
    before, started = cpu(replicas), time.monotonic()
    result = load(replicas, images, picture, rate)
    used, wall = cpu(replicas).since(before), time.monotonic() - started
    own = used["loop"] + used["work"] + used["network"] + result["cpu"]
    others = max(0.0, used.pop("machine") - own) / wall
    latencies = sorted(result["latencies"])
    return {
        "servers": len(replicas),
        "images": images,
        "rate": rate,
        "seconds": result["seconds"],
        "p95": latencies[int(0.95 * images)],
        "mean_latency": fmean(latencies),
        "cpu": {**used, "client": result["cpu"]},
        # What other programs left of the machine.
        "available": (os.cpu_count() or 1) - others,
    }


def load(replicas: Sequence[Replica], images: int, picture: Path, rate: float | None = None) -> Any:
    """Has another process send the images; what it printed."""
    target = ",".join(replica.target for replica in replicas)
    command = [sys.executable, "-m", "benchmarks.capacity.load", target, str(images), "--picture", str(picture)]
    command += ["--rate", str(rate)] if rate else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def cpu(replicas: Sequence[Replica]) -> Cpu:
    """What the parts have used so far."""
    loop = work = network = 0.0
    for replica in replicas:
        serving = set(replica.working_processes())
        for pid in replica.processes():
            main_thread, all_threads = _seconds(f"/proc/{pid}/task/{pid}/stat"), _seconds(f"/proc/{pid}/stat")
            if pid == replica.pid:
                loop += main_thread
                work += all_threads - main_thread
            elif pid in serving:
                work += all_threads
            else:
                network += all_threads
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    # user, nice, system, irq, softirq: all but idle and waiting.
    busy = sum(int(fields[index]) for index in (1, 2, 3, 6, 7))
    return Cpu(loop, work, network, busy / TICKS)


def _seconds(path: str) -> float:
    try:
        fields = Path(path).read_text().rpartition(")")[2].split()
    except OSError:  # a process or thread that has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
