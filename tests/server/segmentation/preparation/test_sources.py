"""Finding a source: the order, the hashes, the npm package's chunks, and what is said when nothing can be reached."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from cutstream_server.segmentation.preparation import npm_package, sources
from cutstream_server.segmentation.preparation.digests import Digest
from cutstream_server.segmentation.preparation.errors import (
    HashMismatchError,
    SourceUnavailableError,
    UnknownNetworkError,
)
from cutstream_server.segmentation.preparation.progress import Report
from cutstream_server.segmentation.preparation.sources import PublishedNetwork, Source

NETWORK = bytes(range(256)) * 40


def sha256(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> PublishedNetwork:
    """A small stand-in for the packaged network, in its place and in the list of published ones."""
    network = PublishedNetwork("the packaged one", "packaged.onnx", sha256(NETWORK), "Apache-2.0")
    monkeypatch.setattr(sources, "PACKAGED_NETWORK", network)
    monkeypatch.setattr(sources, "PUBLISHED", (network,))
    return network


def package(network: bytes, *, chunk_bytes: int = 3000, listed: str = "/models/medium") -> bytes:
    """An npm archive whose chunks stand before their list and in another order than in the network."""
    chunks = [network[start : start + chunk_bytes] for start in range(0, len(network), chunk_bytes)]
    names = [hashlib.sha256(bytes([index]) + chunk).hexdigest() for index, chunk in enumerate(chunks)]
    offsets = [[index * chunk_bytes, index * chunk_bytes + len(chunk)] for index, chunk in enumerate(chunks)]
    listing = {
        listed: {"chunks": [{"hash": name, "offsets": range_} for name, range_ in zip(names, offsets, strict=True)]}
    }
    files = [(f"package/dist/{name}", chunk) for name, chunk in zip(names, chunks, strict=True)][::-1]
    files += [
        ("package/dist/ffff", b"of another network"),
        ("package/dist/resources.json", json.dumps(listing).encode()),
    ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def scrambled(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 64]) + content[middle + 64 :]


PACKAGE = package(NETWORK)


def fetch_of(source: Source) -> sources.Fetch:
    return lambda cache, report: source


def failing_fetch(message: str, error: type[Exception] = SourceUnavailableError) -> sources.Fetch:
    def fetch(cache: Path, report: object) -> Source:
        raise error(message)

    return fetch


def test_chunks_are_joined_at_their_offsets(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(package(NETWORK))
    npm_package.extract_network(archive, tmp_path / "network", sha256(NETWORK))
    assert (tmp_path / "network").read_bytes() == NETWORK


def test_a_package_with_another_network_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(package(NETWORK[::-1]))
    with pytest.raises(HashMismatchError):
        npm_package.extract_network(archive, tmp_path / "network", sha256(NETWORK))
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(
    "content",
    [PACKAGE[: len(PACKAGE) // 2], scrambled(PACKAGE), package(NETWORK, listed="/models/other"), b"no archive"],
    ids=["cut off", "scrambled", "other network", "no archive"],
)
def test_a_damaged_package_is_refused(content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(content)
    with pytest.raises(HashMismatchError, match="damaged"):
        npm_package.extract_network(archive, tmp_path / "network", sha256(NETWORK))


def test_the_first_source_that_answers_is_taken(tmp_path: Path, report: Report) -> None:
    second = Source(tmp_path / "b", "second", sha256(b"b"), "")
    third = Source(tmp_path / "c", "third", sha256(b"c"), "")
    fetches = [failing_fetch("blocked"), fetch_of(second), fetch_of(third)]
    assert sources.obtain_source(tmp_path, report, fetches) is second


def test_a_source_with_a_wrong_hash_is_passed_over(tmp_path: Path, report: Report) -> None:
    good = Source(tmp_path / "b", "good", sha256(b"b"), "")
    fetches = [failing_fetch("wrong", HashMismatchError), fetch_of(good)]
    assert sources.obtain_source(tmp_path, report, fetches) is good


def test_each_failed_source_is_told_as_it_fails(tmp_path: Path, report: Report) -> None:
    fetches = [failing_fetch("the first is blocked"), fetch_of(Source(tmp_path / "b", "second", sha256(b"b"), ""))]
    sources.obtain_source(tmp_path, report, fetches)
    assert report.lines == ["not available: the first is blocked", "source: second"]


def test_without_any_source_the_error_says_what_to_bring_and_how(tmp_path: Path, report: Report) -> None:
    with pytest.raises(SourceUnavailableError) as raised:
        sources.obtain_source(tmp_path, report, [failing_fetch("one is blocked"), failing_fetch("two is blocked")])
    message = str(raised.value)
    for part in ("isnet-general-use.onnx", "npm pack @imgly", "--source FILE", "one is blocked", "two is blocked"):
        assert part in message


def test_a_network_of_an_earlier_run_needs_no_download(
    published: PublishedNetwork, tmp_path: Path, report: Report
) -> None:
    (tmp_path / published.file_name).write_bytes(NETWORK)
    found = sources.obtain_source(tmp_path, report, [failing_fetch("must not be asked", AssertionError)])
    assert (found.path, found.digest) == (tmp_path / published.file_name, published.digest)


def test_a_damaged_file_in_the_cache_is_not_taken(published: PublishedNetwork, tmp_path: Path) -> None:
    (tmp_path / published.file_name).write_bytes(NETWORK[:-1])
    assert sources.cached_source(tmp_path) is None


def test_a_given_published_file_is_recognised_by_its_hash(published: PublishedNetwork, tmp_path: Path) -> None:
    file = tmp_path / "renamed"
    file.write_bytes(NETWORK)
    found = sources.given_source(file, tmp_path / "cache", allow_unknown_hash=False)
    assert (found.path, found.name) == (file, published.name)


def test_a_given_npm_archive_is_unpacked(published: PublishedNetwork, tmp_path: Path) -> None:
    file = tmp_path / "package.tgz"
    file.write_bytes(package(NETWORK))
    found = sources.given_source(file, tmp_path / "cache", allow_unknown_hash=False)
    assert found.path.read_bytes() == NETWORK


def test_a_given_file_with_an_unknown_hash_is_refused_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(b"own")
    with pytest.raises(HashMismatchError, match=hashlib.sha256(b"own").hexdigest()):
        sources.given_source(file, tmp_path, allow_unknown_hash=False)


def test_a_file_with_an_unknown_hash_is_taken_when_asked_and_is_not_deleted(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(b"own")
    found = sources.given_source(file, tmp_path, allow_unknown_hash=True)
    assert (found.path, found.digest, found.licence) == (file, sha256(b"own"), "unknown")
    assert file.exists()


def test_a_given_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNetworkError, match=r"missing\.onnx"):
        sources.given_source(tmp_path / "missing.onnx", tmp_path, allow_unknown_hash=False)


def fake_npm(folder: Path, script: str) -> str:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    return str(npm)


@pytest.fixture
def archive_digest(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of an archive whose hash is the pinned one."""
    content = package(NETWORK)
    monkeypatch.setattr(npm_package, "ARCHIVE_DIGEST", sha256(content))
    return content


def test_the_archive_is_asked_where_npm_says_that_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    asked = []
    monkeypatch.setattr(npm_package, "download", lambda url, *_, **__: asked.append(url))
    npm = fake_npm(tmp_path, "echo https://registry.example/archive.tgz")
    npm_package.fetch_archive(tmp_path / "archive", report, npm=npm)
    assert asked == ["https://registry.example/archive.tgz"]


def test_without_npm_the_public_registry_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    asked = []
    monkeypatch.setattr(npm_package, "download", lambda url, *_, **__: asked.append(url))
    npm_package.fetch_archive(tmp_path / "archive", report, npm=None)
    assert [url.split("/")[2] for url in asked] == ["registry.npmjs.org"]


def test_what_only_npm_can_reach_is_packed_by_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive_digest: bytes, report: Report
) -> None:
    def refused(url: str, *_: object, **__: object) -> None:
        raise SourceUnavailableError(f"{url}: HTTP 401")

    monkeypatch.setattr(npm_package, "download", refused)
    (tmp_path / "packed").write_bytes(archive_digest)
    script = (
        f'if [ "$1" = pack ]; then cp "{tmp_path}/packed" "{tmp_path}/{npm_package.ARCHIVE_NAME}"; else echo url; fi'
    )
    npm_package.fetch_archive(tmp_path / "archive", report, npm=fake_npm(tmp_path, script))
    assert (tmp_path / "archive").read_bytes() == archive_digest


def test_a_registry_that_npm_cannot_reach_is_unavailable_with_npms_words(tmp_path: Path, report: Report) -> None:
    npm = fake_npm(tmp_path, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(SourceUnavailableError, match="ENOTFOUND"):
        npm_package.fetch_archive(tmp_path / "archive", report, npm=npm)


def test_an_npm_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setattr(npm_package, "ANSWER_TIMEOUT_SECONDS", 0.3)
    with pytest.raises(SourceUnavailableError, match="no answer within"):
        npm_package.fetch_archive(tmp_path / "archive", report, npm=fake_npm(tmp_path, "exec sleep 30"))


@pytest.mark.parametrize(("variable", "expected"), [("/var/cache/me", "/var/cache/me"), (None, "/home/me/.cache")])
def test_downloads_lie_in_the_users_cache(variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    if variable is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert sources.default_cache() == Path(expected) / "cutstream" / "downloads"
