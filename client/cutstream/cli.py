"""The command line: what may be typed. What the commands do stands in the modules `cli_*`."""

from __future__ import annotations

import contextlib
import enum
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cutstream import cli_bulk, cli_connection, cli_info, cli_remove, cli_trace
from cutstream.cli_cluster import Cluster
from cutstream.cli_options import parse_options
from cutstream.connection import DEFAULT_TARGET

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Removes the background of images by way of a Cutstream server.",
)


class Engine(enum.StrEnum):
    """Where a bulk run takes place."""

    LOCAL = "local"
    RAY = "ray"


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
    show_trace: Annotated[
        bool, typer.Option("--trace", help="Show each image's trace id and where its time went.")
    ] = False,
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

    cutstream remove chair.jpg lamp.jpg -o cutouts --trace

    cutstream remove chair.jpg --set padding_percentage=0.1 --set channels=rgb --set background_color=#ffffff

    curl -s https://example.org/chair.jpg | cutstream remove - -o - > chair.png

    [b]Exit code[/b]: 0 all images done, 1 some failed, 2 wrong usage.
    """
    options = parse_options(settings or [], preset=preset, output_format=output_format or cli_remove.format_of(output))
    jobs = cli_remove.plan(inputs, output, options.get("output_format", "png"))
    recording = cli_trace.record() if show_trace else None
    client = cli_connection.connect(target, tls, tls_ca, tls_cert, tls_key, token_file)
    with client:
        raise typer.Exit(
            cli_remove.run(
                client, jobs, options, timeout, print_json=print_json, open_result=open_result, recording=recording
            )
        )


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


@app.command()
def bulk(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Folder or URL; text file with a path on each line; - reads such a list."),
    ],
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder or URL for the cutouts and manifest.jsonl.")],
    base: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="What the paths of a list are relative to. Default: the current folder."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Take these only; may be given often. Default: the usual image suffixes."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave these out; may be given often.")
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
        str, typer.Option("--format", metavar="png|webp|raw", help="Format of the cutouts.")
    ] = cli_bulk.DEFAULT_FORMAT,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an earlier run: skip what its manifest says is done.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="As --resume, and try again what failed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again although OUT has a manifest.")] = False,
    engine: Annotated[
        Engine,
        typer.Option(help="Where the run takes place: this process, or a Ray cluster.", rich_help_panel="Cluster"),
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="The Ray cluster, such as HOST:6379. Default: RAY_ADDRESS, else one of this machine alone.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Most workers; a cluster that scales adds nodes for them. Default: one for each node.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    serve_local: Annotated[
        bool,
        typer.Option(
            "--serve-local",
            help="Each worker takes a whole node and starts cutstream-server there, in the place of --target.",
            rich_help_panel="Cluster",
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page to look at the results.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Most images on their way at once. Default: 8 for each stream."),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Streams to open, over all servers of the target. Default: one for each server.",
            rich_help_panel="Connection",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="Longest time for one image, outages of the server included.",
            rich_help_panel="Connection",
        ),
    ] = 900.0,
    target: Target = DEFAULT_TARGET,
    tls: UseTLS = False,
    tls_ca: TLSCA = None,
    tls_cert: TLSCert = None,
    tls_key: TLSKey = None,
    token_file: TokenFile = None,
) -> None:
    """Cut the objects out of thousands of images; none is lost or done twice, whatever breaks in between.

    [b]Examples[/b]

    cutstream bulk photos cutouts --preset trellis

    cutstream bulk photos cutouts --preset trellis --resume

    cutstream bulk photos cutouts --include '*.jpg' --exclude 'drafts/*' --format webp --report report.html

    find /data/photos -name '*.jpg' | cutstream bulk - cutouts --base /data/photos

    cutstream bulk s3://bucket/photos s3://bucket/cutouts --window 32

    cutstream bulk s3://bucket/photos s3://bucket/cutouts --engine ray --address head:6379 --target gpus:50051

    cutstream bulk /shared/photos /shared/cutouts --engine ray --address head:6379 --serve-local --workers 50

    [b]Exit code[/b]: 0 all images done, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    if overwrite and (resume or retry_failed):
        raise typer.BadParameter("--overwrite begins again, --resume and --retry-failed go on: give one of them")
    if engine is Engine.LOCAL and (address or workers or serve_local):
        raise typer.BadParameter("--address, --workers and --serve-local belong to --engine ray")
    if serve_local and (tls or tls_ca or tls_cert or tls_key or token_file):
        raise typer.BadParameter("--serve-local asks the nodes' own servers, which take neither TLS nor tokens")
    # A target of the environment is for other commands. By name: Typer's versions keep the enumeration in other places.
    typed = context.get_parameter_source("target")
    if serve_local and typed is not None and typed.name == "COMMANDLINE":
        raise typer.BadParameter("--serve-local asks the nodes' own servers: leave --target out")
    retry = cli_bulk.patient(timeout)
    connect = partial(
        cli_connection.connect,
        tls=tls,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        token_file=token_file,
        retry=retry,
    )
    task = cli_bulk.Task(
        source=source,
        output=output,
        base=base,
        include=include or [],
        exclude=exclude or [],
        options=parse_options(settings or [], preset=preset, output_format=output_format),
        window=window,
        streams=streams,
        timeout_seconds=timeout,
        resume=resume or retry_failed,
        retry_failed=retry_failed,
        overwrite=overwrite,
        report=report,
        cluster=Cluster(address, workers, None if serve_local else target, connect) if engine is Engine.RAY else None,
    )
    with contextlib.nullcontext() if serve_local else connect(target) as client:
        raise typer.Exit(cli_bulk.run(client, task))


def main() -> None:
    """The entry point `cutstream`."""
    # gRPC's core logs lost connections by itself, in the middle of our output; it reads this with the first channel.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    cli_trace.send_if_configured()
    app()
