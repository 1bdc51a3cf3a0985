"""What a number was measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import scipy
from rich.console import Console

# Other programs that keep this share of the cores busy disturb: caches and memory are shared even if CPU time is not.
BUSY_SHARE: Final = 0.5


@dataclass(frozen=True)
class Machine:
    """The computer, its load over the last minute before the run, and the versions of what does the work."""

    processor: str
    cores: int
    load: float
    python: str
    numpy: str
    scipy: str
    opencv: str

    @property
    def is_busy(self) -> bool:
        """Other programs kept the machine busy."""
        return self.load > BUSY_SHARE * self.cores

    def show(self, console: Console) -> None:
        """Print it, and a warning when other programs disturb."""
        console.print(
            f"{self.processor}, {self.cores} cores; Python {self.python}, numpy {self.numpy}, scipy {self.scipy}, "
            f"OpenCV {self.opencv}"
        )
        if self.is_busy:
            console.print(
                f"[yellow]Load {self.load:.1f} on {self.cores} cores before the start: wall times are of no use, and "
                "CPU times are up to 1.5 times those of an idle machine; the minima come nearest.[/]"
            )

    def as_json(self) -> dict[str, object]:
        """Give it for a report."""
        return asdict(self)


def this_machine() -> Machine:
    """Describe the computer that this runs on."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        numpy=np.__version__,
        scipy=scipy.__version__,
        opencv=cv2.__version__,
    )


def cpu_flags() -> frozenset[str]:
    """Read what the processor can do, in Linux's words."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _processor() -> str:
    """Read the processor's name; Linux keeps it in a file of its own."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
