"""`cutstream info`: what a server says about itself, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cutstream.cli_output import json_line, print_error, to_json
from cutstream.errors import CutoutError
from cutstream.geometry import Box

if TYPE_CHECKING:
    from cutstream.client import Client
    from cutstream.results import ServerInfo, ServerLimits

_MEBIBYTE = 1024 * 1024


def run(client: Client, timeout_seconds: float, *, print_json: bool) -> int:
    """Asks and prints; the exit code."""
    try:
        info = client.info(timeout_seconds=timeout_seconds)
    except CutoutError as error:
        print_error(error)
        return 1
    if print_json:
        Console(soft_wrap=True).print(Text(json_line(to_json(info))))
    else:
        _print_tables(info)
    return 0


def _print_tables(info: ServerInfo) -> None:
    console = Console()
    engine = "embedded Triton" if info.triton.embedded else "Triton"
    state = "ready" if info.triton.ready else "not ready"
    console.print(Text(f"Cutstream {info.version}, {engine} {state} ({info.triton.transport})", style="bold"))
    console.print(Text(f"Reads {', '.join(info.input_formats)}"))
    models = _table("Model", "Version", "State", "Licence")
    for model in info.models:
        row = (model.name, model.version or "-", model.state or "-", model.licence or "-")
        models.add_row(*map(Text, row))
    console.print(models)
    if info.presets:
        presets = _table("Preset", "What it reproduces")
        for preset in info.presets:
            presets.add_row(Text(preset.name), Text(preset.description))
        console.print(presets)
    limits = _table("Limit", "")
    for name, value in _limits(info.limits):
        limits.add_row(Text(name), Text(value))
    console.print(limits)
    defaults = _table("Option", "Default here")
    for option, default in info.default_options.items():
        defaults.add_row(Text(option), Text(_option(default)))
    console.print(defaults)


def _table(*headers: str) -> Table:
    return Table(*headers, box=rich.box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def _limits(limits: ServerLimits) -> list[tuple[str, str]]:
    rows = [
        ("image file", f"{limits.max_image_bytes / _MEBIBYTE:g} MiB"),
        ("image size", f"{limits.max_image_pixels:,} pixels"),
        ("images in work", f"{limits.max_in_flight:,}"),
        ("bytes in work", f"{limits.max_bytes_in_flight / _MEBIBYTE:g} MiB"),
        ("chunk of a stream", f"{limits.max_chunk_bytes / _MEBIBYTE:g} MiB"),
        ("cutout of a single call", f"{limits.max_unary_cutout_bytes / _MEBIBYTE:g} MiB"),
    ]
    if limits.image_timeout_seconds is not None:
        rows.append(("time for an image", f"{limits.image_timeout_seconds:g} s"))
    if limits.upload_timeout_seconds is not None:
        rows.append(("pause in an upload", f"{limits.upload_timeout_seconds:g} s"))
    return rows


def _option(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Box):
        return f"{value.left_px:g},{value.top_px:g},{value.width_px:g},{value.height_px:g}"
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
