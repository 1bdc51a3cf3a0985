"""The command `cutstream-server`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from cutstream_server import __version__, health_cli, model_cli, token_cli, triton_cli

app = typer.Typer(
    help="Cutstream's service: background removal for 3D pipelines over gRPC, with the network on NVIDIA Triton.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(model_cli.app, name="model", help="Make and manage the models of the repository.")
app.add_typer(triton_cli.app, name="triton", help="Make the environment of the embedded Triton.")
app.add_typer(token_cli.app, name="token", help="Make the bearer tokens that the service asks for.")
app.command()(health_cli.health)


@app.callback(invoke_without_command=True)
def _version(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show_version:
        print(__version__)
        raise typer.Exit


@app.command()
def serve(
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of the service; port 0 takes a free one.  [CUTSTREAM_LISTEN]"),
    ] = None,
    triton: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this Triton instead of the embedded one.  [CUTSTREAM_TRITON]"),
    ] = None,
    model_repository: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Models of the embedded Triton, comma-separated.  [CUTSTREAM_MODEL_REPOSITORY]"
        ),
    ] = None,
) -> None:
    """Start the service, and an embedded Triton unless an address of one is given.

    Everything else is set by environment variables: docs/options.md lists them. SIGTERM or Ctrl-C drains: accepted
    images are answered, then the service and its Triton stop.

    Example: cutstream-server serve --listen 127.0.0.1:50051
    """
    given = {"CUTSTREAM_LISTEN": listen, "CUTSTREAM_TRITON": triton, "CUTSTREAM_MODEL_REPOSITORY": model_repository}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    # Here and not above: the other commands work without loading the service.
    from cutstream_server.rpc.server import StartError
    from cutstream_server.serve import serve as run_service
    from cutstream_server.settings import SettingsError, load_settings
    from cutstream_server.telemetry.logs import configure_logging

    try:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        asyncio.run(run_service(settings))
    except (SettingsError, StartError) as error:
        print(f"cutstream-server: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def main() -> None:
    """Runs the command line."""
    app()
