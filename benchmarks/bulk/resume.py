"""Memory and time of `--resume`: `python -m benchmarks.bulk.resume [--lines N] [--entries N]`.

Reads a manifest of N lines as a run writes them, and fills the table of a manifest of --entries images without the text
around it, whose size is what a run of that many images adds. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Final

from cutstream.bulk.compact import CompactMap, fingerprint
from cutstream.bulk.manifest import read_done

MIB: Final = 1 << 20
# A line as the service makes it: some forty numbers of 17 digits.
METRICS: Final = {f"measured_quantity_{number}": 0.12345678901234567 for number in range(30)}
TIMINGS: Final = {f"stage_{number}_seconds": 0.0123456789012345 for number in range(8)}


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=10_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.jsonl"
        write_manifest(manifest, arguments.lines)
        before, started = resident_mib(), time.monotonic()
        done = read_done(manifest)
        size, seconds = manifest.stat().st_size / MIB, time.monotonic() - started
        print(f"manifest of {len(done)} lines, {size:.0f} MiB: {seconds:.1f} s, {resident_mib() - before:.0f} MiB more")
    del done
    before, started = resident_mib(), time.monotonic()
    table = CompactMap("Q")
    for number in range(arguments.entries):
        table.set(fingerprint(str(number)), number)
    print(f"table of {len(table)}: {time.monotonic() - started:.1f} s, {resident_mib() - before:.0f} MiB more")
    print(f"the whole process, at its peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def write_manifest(path: Path, count: int) -> None:
    """A manifest of `count` images."""
    rest = {"metrics": METRICS, "timings": TIMINGS, "options": "0123456789abcdef", "sha256": "0" * 64}
    tail = json.dumps({"status": "ok", "size": 250_000, "mtime": 1_700_000_000_000_000_000, "output_bytes": 1, **rest})
    with path.open("w") as file:
        for number in range(count):
            file.write(f'{{"input": "/data/photos/{number}.jpg", "output": "{number}.png", {tail[1:]}\n')


def resident_mib() -> float:
    """This process's memory that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


if __name__ == "__main__":
    main()
