"""The command line: what may be typed. What the commands do stands in the modules `cli_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cutstream import cli_connection, cli_info, cli_remove
from cutstream.cli_options import parse_options
from cutstream.connection import DEFAULT_TARGET

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Removes the background of images by way of a Cutstream server.",
)

# Typer reads the annotations at run time, in Python 3.10 too: X | None instead of X | None keeps its parser happy.
Target = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        envvar="CUTSTREAM_TARGET",
        help="The server; a list HOST:PORT,HOST:PORT or dns:///HOST:PORT for several.",
        rich_help_panel="Connection",
    ),
]
UseTLS = Annotated[
    bool,
    typer.Option("--tls", help="Encrypt, trusting the system's authorities.", rich_help_panel="Connection"),
]
TLSCA = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt, trusting this authority (PEM).", rich_help_panel="Connection"),
]
TLSCert = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Certificate to show to the server (PEM).", rich_help_panel="Connection"),
]
TLSKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Key of that certificate (PEM).", rich_help_panel="Connection"),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with a bearer token; needs TLS.", rich_help_panel="Connection"),
]


@app.command()
def remove(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Image files; - is standard input.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File, or a folder for several images; - is standard output. Default: NAME.cutout.png beside it.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Frame as a 3D pipeline does, such as trellis: see [b]cutstream info[/b]."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any option by name; may be given often."),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="png|webp|raw", help="Format of the cutouts. Default: OUT's suffix, else png."
        ),
    ] = None,
    print_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each image, with its metrics.")
    ] = False,
    open_result: Annotated[bool, typer.Option("--open", help="Show the cutouts in the system's viewer.")] = False,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, help="Longest time for one image.", rich_help_panel="Connection"),
    ] = 120.0,
    target: Target = DEFAULT_TARGET,
    tls: UseTLS = False,
    tls_ca: TLSCA = None,
    tls_cert: TLSCert = None,
    tls_key: TLSKey = None,
    token_file: TokenFile = None,
) -> None:
    """Cut the object out of one or some images.

    [b]Examples[/b]

    cutstream remove chair.jpg

    cutstream remove chair.jpg -o chair.png --preset trellis --open

    cutstream remove photos/*.jpg -o cutouts --format webp --json > metrics.jsonl

    cutstream remove chair.jpg --set padding_percentage=0.1 --set channels=rgb --set background_color=#ffffff

    curl -s https://example.org/chair.jpg | cutstream remove - -o - > chair.png

    [b]Exit code[/b]: 0 all images done, 1 some failed, 2 wrong usage.
    """
    options = parse_options(settings or [], preset=preset, output_format=output_format or cli_remove.format_of(output))
    jobs = cli_remove.plan(inputs, output, options.get("output_format", "png"))
    client = cli_connection.connect(target, tls, tls_ca, tls_cert, tls_key, token_file)
    with client:
        raise typer.Exit(cli_remove.run(client, jobs, options, timeout, print_json=print_json, open_result=open_result))


@app.command()
def info(
    print_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="Longest wait.", rich_help_panel="Connection")
    ] = 10.0,
    target: Target = DEFAULT_TARGET,
    tls: UseTLS = False,
    tls_ca: TLSCA = None,
    tls_cert: TLSCert = None,
    tls_key: TLSKey = None,
    token_file: TokenFile = None,
) -> None:
    """Show a server's version, models, presets, limits and default options.

    [b]Examples[/b]

    cutstream info

    cutstream info --target gpu1:50051 --json
    """
    with cli_connection.connect(target, tls, tls_ca, tls_cert, tls_key, token_file) as client:
        raise typer.Exit(cli_info.run(client, timeout, print_json=print_json))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bulk() -> None:
    """Move folders of images (not in this version)."""
    typer.echo("cutstream bulk comes with issue 4", err=True)
    raise typer.Exit(1)


def main() -> None:
    """The entry point `cutstream`."""
    # gRPC's core logs lost connections by itself, in the middle of our output; it reads this with the first channel.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    app()
