"""Downloads that give up soon on a blocked host, go on where they stopped, and end with a known hash."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import httpx

from .digests import Digest, require_digest
from .errors import SourceUnavailableError
from .progress import Report

ANSWER_TIMEOUT_SECONDS = 10.0
"""A host that has not begun to answer by then counts as blocked; so does one that falls silent for as long."""

# Identity: a range of a compressed answer would count other bytes than those of the file.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "cutstream-server"}
T = TypeVar("T")


def download(
    url: str,
    target: Path,
    digests: Sequence[Digest],
    report: Report,
    *,
    answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
) -> None:
    """Download a file with a known hash; what an earlier, broken try left in `target`.part is kept and completed.

    A transfer that breaks off is resumed at once, as long as each try brings more bytes.

    Args:
        url: an http or https address; redirects are followed.
        target: where the file stands afterwards, complete and verified. Its folder is made.
        digests: the file's pinned hashes, one or more.
        report: shows the progress.
        answer_timeout_seconds: for name lookup, connection, redirects and the begin of the answer together.

    Raises:
        SourceUnavailableError: no answer in time, an answer that is no file, or a transfer that broke off for good.
        HashMismatchError: the file that came is another one; nothing of it is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with report.transfer(target.name) as advance, _client(answer_timeout_seconds) as client:
        complete = False
        while not complete:
            before = _size(part)
            try:
                _continue(client, url, part, advance, answer_timeout_seconds)
                complete = True
            except (httpx.HTTPError, TimeoutError) as error:
                if _size(part) <= before:
                    raise SourceUnavailableError(f"{url}: {_reason(error, answer_timeout_seconds)}") from error
    for digest in digests:
        require_digest(part, digest)
    part.replace(target)


def _client(timeout_seconds: float) -> httpx.Client:
    context: ssl.SSLContext = httpx.create_ssl_context()
    # Beside the list that comes with httpx: authorities that a company's administrators gave to the machine.
    context.load_default_certs()
    return httpx.Client(headers=_HEADERS, timeout=timeout_seconds, follow_redirects=True, verify=context)


def _continue(
    client: httpx.Client, url: str, part: Path, advance: Callable[[int, int | None], None], timeout_seconds: float
) -> None:
    """Append what is missing to the part, or write it anew when the host cannot continue."""
    done = _size(part)
    with _answer(client, url, {"Range": f"bytes={done}-"} if done else {}, timeout_seconds) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # Nothing is missing; the hash will tell whether it is the file.
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise SourceUnavailableError(f"{url}: HTTP {response.status_code}")
        if response.status_code == HTTPStatus.OK:
            done = 0
        missing = response.headers.get("Content-Length")
        total = done + int(missing) if missing else None
        with part.open("ab" if done else "wb") as file:
            advance(done, total)
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                advance(done, total)


@contextmanager
def _answer(client: httpx.Client, url: str, headers: dict[str, str], seconds: float) -> Iterator[httpx.Response]:
    """Send a request and hand out its answer when its head is there in time; close it at the end."""
    request = client.build_request("GET", url, headers=headers)
    response = _within(seconds, lambda: client.send(request, stream=True))
    try:
        yield response
    finally:
        response.close()


def _within(seconds: float, action: Callable[[], T]) -> T:
    """Return what the action returns, or raise TimeoutError when it takes longer; it is then left to itself.

    The time-outs of an HTTP client hold for each address and each redirect anew, and not at all for the name lookup.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError
    return future.result()


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {seconds:.0f} s"
    return f"{type(error).__name__}: {error}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
