"""How fast the command of a run on a cluster merges what workers note: `python -m benchmarks.bulk.merging`.

Its one process is what limits a run in the end: it reads every line of every part, and writes it into the manifest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from cutstream.bulk.manifest import Manifest
from cutstream.bulk.parts import Parts
from cutstream.bulk.ray_engine import BLOCK_IMAGES
from cutstream.bulk.storage import LocalStorage

# As long as those of real runs.
LINE = {
    "input": "/shared/photos/0123/012345.jpg", "output": "0123/012345.png", "output_bytes": 400_000,
    "sha256": "0" * 64, "status": "ok", "size": 750_000, "mtime": 1, "options": "0" * 16,
    "metrics": {f"metric_{number:02}": 0.123456 for number in range(40)},
    "timings": {f"stage_{number}_seconds": 0.123456 for number in range(8)},
}  # fmt: skip


def main() -> None:
    """Write parts, merge them, and print the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=200, help="of 100 lines; default 200")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder) / "manifest.jsonl", keep=False) as manifest:
        parts = Parts(LocalStorage(), folder)
        for block in range(arguments.blocks):
            with parts.writing(block) as part:
                for number in range(BLOCK_IMAGES):
                    part.append({**LINE, "input": f"{LINE['input']}{block}-{number}"})
        started = time.process_time()
        merged = sum(1 for block in range(arguments.blocks) for _ in parts.merge(manifest, block))
        seconds = time.process_time() - started
    line_bytes = len(json.dumps(LINE))
    print(
        f"{merged} lines of {line_bytes} bytes: {1e6 * seconds / merged:.0f} us of CPU each, {merged / seconds:.0f}/s"
    )


if __name__ == "__main__":
    main()
