"""`cutstream-server triton ...`: the environment of the embedded Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cutstream_server.segmentation.embedded.environment import (
    DEFAULT_FOLDER,
    TritonEnvironmentError,
    make_environment,
)

app = typer.Typer(no_args_is_help=True, help="Make the environment of the embedded Triton.")


@app.callback()
def _group() -> None:
    """Keeps `setup` a command of its own; typer would merge a single one into the group."""


@app.command()
def setup(
    environment: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that it goes into.", show_default="triton/ in the server's")
    ] = DEFAULT_FOLDER,
    force: Annotated[bool, typer.Option("--force", help="Make it again, also when it is up to date.")] = False,
) -> None:
    """Install the embedded Triton: nothing to do when it is there and up to date."""
    try:
        make_environment(environment, force=force, say=typer.echo)
    except (TritonEnvironmentError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
