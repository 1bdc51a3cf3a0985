"""From the connection's flags to a client."""

from __future__ import annotations

from pathlib import Path

import typer

from cutstream.client import Client
from cutstream.config import RetryConfig, TLSConfig
from cutstream.connection import Token, check_token_can_be_sent

# A person at a prompt has mistyped the address more often than the server is just being restarted.
_IMPATIENT = RetryConfig(unreachable_seconds=3.0)


def connect(
    target: str,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    retry: RetryConfig | None = None,
) -> Client:
    """A client for these flags; BadParameter when they cannot be right."""
    try:
        wants_tls = tls or tls_ca or tls_cert or tls_key
        config = TLSConfig.from_files(tls_ca, tls_cert, tls_key) if wants_tls else None
        token = _token_of(token_file) if token_file is not None else None
        return Client(target, tls=config, token=token, retry=retry or _IMPATIENT)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _token_of(file: Path) -> Token:
    """The token in a file, read anew for each call, since a bulk job outlives its token; OSError, ValueError."""
    token = file.read_text().strip()
    check_token_can_be_sent(token)
    # A pipe gives what is in it once.
    return (lambda: file.read_text().strip()) if file.is_file() else token
