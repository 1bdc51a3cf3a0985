"""Bearer tokens: a file with one line a token, its name and the hash of it, never the token itself.

    NAME HASH [expires=DATE] [methods=METHOD,METHOD]

Tokens are 256 random bits, made by `cutstream-server token new`. There is nothing to guess in them, so one round of
SHA-256 is enough: salt and slow hashes protect passwords that people thought of.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cutstream.v1 import cutstream_pb2 as pb
from cutstream_server.errors import PermissionDeniedError, UnauthenticatedError
from cutstream_server.rpc.security.watched import SecurityFileError, WatchedFiles, read_file

logger = logging.getLogger(__name__)

VARIABLE = "CUTSTREAM_TOKENS_FILE"
TOKEN_PREFIX = "cst_"  # noqa: S105 - tells secret scanners what they found
_TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE: Final = re.compile(rf"\s*(?P<name>{NAME.pattern})\s+(?P<digest>[0-9a-f]{{64}})(?P<rest>(?:\s.*)?)")
# Every call is compared with every token: a thousand take 0.1 ms.
_MAX_TOKENS: Final = 1000

SERVICE: Final = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"]
METHODS: Final = tuple(method.name for method in SERVICE.methods)


@dataclass(frozen=True)
class TokenEntry:
    """One line of the file.

    Attributes:
        name: who has the token; shows in logs and errors.
        digest: SHA-256 of the token, in hexadecimal digits.
        expires: from then on it opens nothing; None is never.
        methods: what of the API it opens; empty is all.
    """

    name: str
    digest: str
    expires: datetime | None = None
    methods: tuple[str, ...] = ()

    def line(self) -> str:
        """Gives it as it stands in the file."""
        expires = "" if self.expires is None else f" expires={self.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        methods = f" methods={','.join(self.methods)}" if self.methods else ""
        return f"{self.name} {self.digest}{expires}{methods}"


def new_token() -> str:
    """Makes a token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> str:
    """Gives what the file has of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens of a file, read again when it changes.

    Raises:
        SecurityFileError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFiles((path,), lambda: read_tokens(path))

    def authorize(self, authorization: Iterable[str], method: str) -> None:
        """Checks the right to call a method.

        Args:
            authorization: the values of the call's metadata `authorization`.
            method: its full name, "/package.Service/Method".

        Raises:
            UnauthenticatedError: no token, one that is not known, or one that has expired.
            PermissionDeniedError: the token is for other methods.
        """
        self._watched.refresh()
        token = _bearer_token(authorization)
        entry = None if token is None else self._find(token)
        if entry is None:
            raise UnauthenticatedError("this server does not know the token", cause="unknown_token")
        if entry.expires is not None and datetime.now(UTC) >= entry.expires:
            text = f"the token {entry.name!r} has expired on {entry.expires}"
            raise UnauthenticatedError(text, cause="expired_token", token_name=entry.name)
        service, _, name = method.removeprefix("/").rpartition("/")
        if entry.methods and service == SERVICE.full_name and name not in entry.methods:
            allowed = ", ".join(entry.methods)
            text = f"the token {entry.name!r} is for {allowed} only"
            raise PermissionDeniedError(text, token_name=entry.name, method=name, allowed=allowed)

    def _find(self, token: str) -> TokenEntry | None:
        """Compares with every entry in constant time, whichever it is."""
        digest, found = token_digest(token), None
        for entry in self._watched.content:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found


def _bearer_token(authorization: Iterable[str]) -> str | None:
    """Gives what may be a token of this service; None for anything else.

    Raises:
        UnauthenticatedError: nothing was sent.
    """
    values = list(authorization)
    if not values:
        raise UnauthenticatedError("this server asks for a token: `authorization: Bearer TOKEN`", cause="no_token")
    scheme, _, token = values[0].partition(" ")
    # The form also keeps out a password whose hash somebody wrote into the file by hand.
    return token if len(values) == 1 and scheme.lower() == "bearer" and _TOKEN.fullmatch(token) else None


def read_tokens(path: Path) -> tuple[TokenEntry, ...]:
    """Reads a file of tokens. Blank lines and those that begin with # are left out.

    Raises:
        SecurityFileError: it cannot be read, or a line of it is wrong.
    """
    text = read_file(VARIABLE, path, private=True).decode(errors="replace")
    if not text:
        # More likely to be just being written than meant.
        raise SecurityFileError(f"{VARIABLE}={path} is empty; a comment line alone means that nobody has a token")
    entries: dict[str, TokenEntry] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = parse_line(line)
            if entry.name in entries:
                raise ValueError(f"the name {entry.name} stands there twice")  # noqa: TRY301 - told with its line
        except ValueError as error:
            raise SecurityFileError(f"{VARIABLE}={path}, line {number}: {error}") from error
        entries[entry.name] = entry
    if len(entries) > _MAX_TOKENS:
        raise SecurityFileError(f"{VARIABLE}={path} has {len(entries)} tokens; {_MAX_TOKENS} are allowed")
    logger.info("%s=%s: tokens of %s", VARIABLE, path, ", ".join(entries) or "nobody")
    return tuple(entries.values())


def parse_line(line: str) -> TokenEntry:
    """Reads one line.

    Raises:
        ValueError: with what is wrong; the text shows nothing of the line, which may be a token put there by mistake.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("is not `NAME HASH`, a name of letters, digits, . _ - and 64 hexadecimal digits")
    expires: datetime | None = None
    methods: tuple[str, ...] = ()
    for part in found["rest"].split():
        key, _, value = part.partition("=")
        if key == "expires":
            expires = _parse_date(value)
        elif key == "methods":
            methods = parse_methods(value)
        else:
            raise ValueError("has something other than expires= and methods= after the hash")
    return TokenEntry(found["name"], found["digest"], expires, methods)


def parse_methods(text: str) -> tuple[str, ...]:
    """Reads a comma list of the API's methods.

    Raises:
        ValueError: one of them is none.
    """
    methods = tuple(text.split(","))
    if not set(methods) <= set(METHODS):
        raise ValueError(f"methods must be of {', '.join(METHODS)}")
    return methods


def _parse_date(text: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("expires must be a date such as 2027-06-30 or 2027-06-30T12:00:00Z") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
