"""What `cutstream-server model list` and `show` print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import rich.box
from rich.table import Table
from rich.text import Text

from .errors import UnknownModelNameError
from .interface import Interface
from .registry import ModelEntry, load_registry
from .repository import BuiltModel, built_models, versions_of

_MEBIBYTE = 1024 * 1024


def models_table(repository: Path) -> Table:
    """Return a row for each network of the registry, and for each model of the repository that is none of them."""
    built: dict[str, list[BuiltModel]] = {}
    for model in built_models(repository):
        built.setdefault(model.name, []).append(model)
    entries = load_registry().models
    table = _table("Model", "Built", "Licence", "Commercial", "Side", "What it is")
    for name, entry in entries.items():
        use = "yes" if entry.commercial_use else "no"
        row = (name, _versions(built.get(name, [])), entry.licence, use, _sides(entry.interface), entry.title)
        table.add_row(*map(Text, row))
    for name, versions in built.items():
        if name not in entries:
            record = versions[-1].record
            known = Interface.model_validate(record.interface) if record and record.interface else None
            licence, origin = (record.licence, f"from {record.source}") if record else ("unknown", "-")
            row = (name, _versions(versions), licence, "unknown", _sides(known) if known else "-", origin)
            table.add_row(*map(Text, row))
    return table


def model_table(name: str, repository: Path) -> Table:
    """Return all that is known of one network.

    Raises:
        UnknownModelNameError: neither the registry nor the repository has it.
    """
    entry = load_registry().models.get(name)
    try:
        versions = versions_of(name, repository)
    except UnknownModelNameError:
        if entry is None:
            raise
        versions = []
    table = _table(name, "")
    for key, value in (*_of_entry(entry), *_of_versions(versions)):
        table.add_row(Text(key), Text(value))
    return table


def _of_entry(entry: ModelEntry | None) -> Iterator[tuple[str, str]]:
    if entry is None:
        return
    yield "what it is", entry.title
    yield "good at", entry.good_at
    yield "weights", entry.weights
    yield "licence", f"{entry.licence}, commercial use {'allowed' if entry.commercial_use else 'forbidden'}"
    yield from _of_interface(entry.interface)
    for source in entry.sources:
        size = f", {source.size_bytes / _MEBIBYTE:.0f} MiB" if source.size_bytes else ""
        hashes = ", ".join(f"{digest.algorithm} {digest.value}" for digest in source.digests) or "no published hash"
        yield "source", f"{source.name}{size}, {hashes}"


def _of_interface(interface: Interface) -> Iterator[tuple[str, str]]:
    yield "side", _sides(interface)
    yield "input", f"{interface.channel_order}, {interface.layout}"
    yield "mean", _list(interface.mean)
    yield "std", _list(interface.std)
    yield "mask", f"output {interface.output}, activation {interface.activation}"


def _of_versions(versions: Sequence[BuiltModel]) -> Iterator[tuple[str, str]]:
    for model in versions:
        record = model.record
        origin = f"from {record.source}, licence {record.licence}" if record else "without a record"
        yield f"version {model.version}", f"{model.file}, {origin}"


def _versions(models: list[BuiltModel]) -> str:
    return ", ".join(f"version {model.version}" for model in models) or "-"


def _sides(interface: Interface) -> str:
    return f"{interface.side} and others" if interface.other_sides else str(interface.side)


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(*headers: str) -> Table:
    table = Table(*headers, box=rich.box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True  # a name that is cut short is no use
    return table
