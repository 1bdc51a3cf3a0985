"""Downloads against a real HTTP server on the loopback that can break off, refuse, redirect and fall silent."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cutstream_server.segmentation.preparation import download as download_module
from cutstream_server.segmentation.preparation.digests import Digest
from cutstream_server.segmentation.preparation.download import download
from cutstream_server.segmentation.preparation.errors import HashMismatchError, SourceUnavailableError
from cutstream_server.segmentation.preparation.progress import Report

CONTENT = bytes(range(256)) * 4096
DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
SHORT_SECONDS = 0.3


class Host:
    """What the server does, and which ranges it was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.ranges: list[str | None] = []
        self.honours_ranges = True
        self.break_off_after: list[int] = []
        self.status = 200


def handler_for(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/file")
                self.end_headers()
                return
            asked = self.headers.get("Range")
            host.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and host.honours_ranges else 0
            body = CONTENT[start:]
            status = 416 if asked and not body else 206 if start else host.status
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            sent = host.break_off_after.pop(0) if host.break_off_after else len(body)
            self.wfile.write(body[:sent])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def host() -> Iterator[Host]:
    behaviour = Host()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(behaviour))
    behaviour.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behaviour
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_file_arrives_whole(host: Host, tmp_path: Path, report: Report) -> None:
    target = tmp_path / "deep" / "file"
    download(host.url, target, (DIGEST,), report)
    assert target.read_bytes() == CONTENT


def test_redirects_are_followed(host: Host, tmp_path: Path, report: Report) -> None:
    download(host.url.replace("/file", "/moved"), tmp_path / "file", (DIGEST,), report)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_of_an_earlier_run_is_completed_and_not_loaded_again(host: Host, tmp_path: Path, report: Report) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(host.url, tmp_path / "file", (DIGEST,), report)
    assert host.ranges == ["bytes=1000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_transfer_that_breaks_off_goes_on_in_the_same_run(host: Host, tmp_path: Path, report: Report) -> None:
    host.break_off_after = [300_000, 200_000]
    download(host.url, tmp_path / "file", (DIGEST,), report)
    assert host.ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_host_that_knows_no_ranges_sends_the_file_from_its_begin(host: Host, tmp_path: Path, report: Report) -> None:
    host.honours_ranges = False
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    download(host.url, tmp_path / "file", (DIGEST,), report)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_needs_only_its_hash(host: Host, tmp_path: Path, report: Report) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(host.url, tmp_path / "file", (DIGEST,), report)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_transfer_that_breaks_off_for_good_is_unavailable_and_keeps_what_came(
    host: Host, tmp_path: Path, report: Report
) -> None:
    host.break_off_after = [300_000, 0]
    with pytest.raises(SourceUnavailableError, match=host.url):
        download(host.url, tmp_path / "file", (DIGEST,), report)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:300_000]


def test_another_file_than_the_pinned_one_is_refused_and_deleted(host: Host, tmp_path: Path, report: Report) -> None:
    with pytest.raises(HashMismatchError, match="0123"):
        download(host.url, tmp_path / "file", (Digest("sha256", "0123"),), report)
    assert list(tmp_path.iterdir()) == []


def test_an_error_page_is_no_file(host: Host, tmp_path: Path, report: Report) -> None:
    host.status = 403
    with pytest.raises(SourceUnavailableError, match="HTTP 403"):
        download(host.url, tmp_path / "file", (DIGEST,), report)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_from_what_was_there_to_the_whole(host: Host, tmp_path: Path, report: Report) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(host.url, tmp_path / "file", (DIGEST,), report)
    assert report.steps[0] == (1000, len(CONTENT))
    assert report.steps[-1] == (len(CONTENT), len(CONTENT))


@contextmanager
def silent_host() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"


def test_a_host_that_does_not_answer_is_given_up(tmp_path: Path, report: Report) -> None:
    with silent_host() as url, pytest.raises(SourceUnavailableError, match="no answer within"):
        download(url, tmp_path / "file", (DIGEST,), report, answer_timeout_seconds=SHORT_SECONDS)


def test_a_name_lookup_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30))
    with pytest.raises(SourceUnavailableError, match="no answer within"):
        download(
            "http://example.invalid/file",
            tmp_path / "file",
            DIGEST,
            report,
            answer_timeout_seconds=SHORT_SECONDS,
        )
    released.set()


def test_a_closed_port_is_unavailable(tmp_path: Path, report: Report) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnavailableError, match="ConnectError"):
        download(f"http://127.0.0.1:{port}/file", tmp_path / "file", (DIGEST,), report)


def test_a_blocked_host_is_given_up_within_ten_seconds() -> None:
    assert download_module.ANSWER_TIMEOUT_SECONDS <= 10
