"""`cutstream-server token ...`: the bearer tokens that the service asks for."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cutstream_server.rpc.security.tokens import (
    METHODS,
    NAME,
    TokenEntry,
    new_token,
    parse_methods,
    read_tokens,
    token_digest,
)
from cutstream_server.rpc.security.watched import SecurityFileError

# Beyond the life of any server; a date past the year 9999 cannot be written down.
_MOST_DAYS = 36_500

app = typer.Typer(no_args_is_help=True, help="Make the bearer tokens that the service asks for.")


@app.callback()
def _group() -> None:
    """Keeps `new` a command of its own; typer would merge a single one into the group."""


@app.command()
def new(
    name: Annotated[str, typer.Option(help="Who gets it: 1 to 64 letters, digits, dots, dashes, underscores.")],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add its line here, the file of CUTSTREAM_TOKENS_FILE; else it is shown."),
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, max=_MOST_DAYS, help="It ends after so many days.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help=f"It opens these only, comma-separated: {', '.join(METHODS)}.")
    ] = None,
) -> None:
    """Make a token: it is printed once, and the service keeps only its hash.

    A running service takes it within a moment. To withdraw a token delete its line.

    Example: cutstream-server token new --name pipeline --file tokens > pipeline.token
    """
    if not NAME.fullmatch(name):
        raise typer.BadParameter("a name has 1 to 64 letters, digits, dots, dashes or underscores", param_hint="--name")
    token = new_token()
    try:
        expires = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
        entry = TokenEntry(name, token_digest(token), expires, parse_methods(methods) if methods is not None else ())
        if file is not None:
            _add(entry, file)
    except (ValueError, SecurityFileError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if file is None:
        typer.echo(f"Add this line to the file of CUTSTREAM_TOKENS_FILE:\n{entry.line()}\n", err=True)
    typer.echo("This is the token; it cannot be shown again:", err=True)
    typer.echo(token)


def _add(entry: TokenEntry, path: Path) -> None:
    """Adds a line at the end, in one write, so that a service that reads the file meanwhile sees all of it or nothing.

    Raises:
        SecurityFileError: the file is there and cannot be used as it is.
        ValueError: the name is taken.
        OSError: the file cannot be written.
    """
    line = entry.line() + "\n"
    text = path.read_text() if path.exists() else ""
    if text:
        if any(other.name == entry.name for other in read_tokens(path)):
            raise ValueError(f"{path} has a token of the name {entry.name!r}; delete its line or take another name")
        if not text.endswith("\n"):
            line = "\n" + line
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
