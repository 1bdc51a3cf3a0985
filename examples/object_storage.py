"""From bucket to bucket: `python -m examples.object_storage s3://bucket/photos s3://bucket/cutouts`.

SRC and OUT are URLs of anything that fsspec reaches (s3://, gs://, az://, file://, memory://, ...) or folders. Needs
`cutstream[storage]` and the driver of the store: `pip install s3fs`, gcsfs, adlfs. Credentials and endpoints are the
driver's business: it reads its cloud's usual files and variables (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS), and
everything else can be set as FSSPEC_S3_ENDPOINT_URL=https://minio:9000 or in ~/.config/fsspec/s3.json.

Run it again after whatever broke: what OUT has already is skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import fsspec  # type: ignore[import-untyped]

from cutstream.cli import app


def cut_out(source: str, output: str, target: str) -> int:
    """Runs `cutstream bulk` over the images below SRC; its exit code: 0 when all have a cutout, 1 when some failed.

    The command runs in this process and not in one of its own, so that it also reaches stores that only this process
    knows: memory://, or a file system that the program registered with fsspec.
    """
    try:
        app(["bulk", source, output, "--preset", "trellis", "--resume", "--target", target])
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("the command ends with an exit code")


def to_look_at(output: str) -> Iterator[tuple[str, str]]:
    """The images of a run that should not go on unseen: (address of the image, why)."""
    # The manifest lies beside the cutouts, one line for each image, so that no store has to be listed or asked again.
    with fsspec.open(f"{output.rstrip('/')}/manifest.jsonl", "rt", encoding="utf-8") as manifest:
        for line in map(json.loads, manifest):
            if line["status"] != "ok":
                yield line["input"], line["reason"]
            elif line["metrics"].get("validation") != "ok":
                yield line["input"], f"object {line['metrics'].get('validation')}"
            elif line["metrics"].get("touches_border"):
                yield line["input"], "the object reaches over the border of the image"


def main() -> None:
    """Cuts everything out, then lists what a person should look at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SRC", help="URL or folder of the images, searched with all below it")
    parser.add_argument("output", metavar="OUT", help="URL or folder for the cutouts and their manifest")
    parser.add_argument("--target", metavar="HOST:PORT", default="localhost:50051", help="the server")
    arguments = parser.parse_args()
    code = cut_out(arguments.source, arguments.output, arguments.target)
    if code in {0, 1}:
        for address, why in to_look_at(arguments.output):
            sys.stdout.write(f"{address}\t{why}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
