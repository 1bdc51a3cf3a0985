"""Options as text: `--set name=value`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import cast

import typer
from google.protobuf.descriptor import FieldDescriptor

from cutstream.errors import CutoutError
from cutstream.options import FIELDS, Options, options_to_proto

_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_options(settings: Sequence[str], *, preset: str | None, output_format: str | None) -> Options:
    """The options of these flags.

    Raises:
        typer.BadParameter: naming everything that is wrong at once, with the nearest right name.
    """
    options: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set takes NAME=VALUE, not {setting!r}")
        options[name.strip()] = _value(name.strip(), text.strip())
    if preset is not None:
        options["preset"] = preset
    if output_format is not None:
        options.setdefault("output_format", output_format)
    try:
        options_to_proto(options)
    except CutoutError as error:
        lines = [f"{violation.field}: {violation.description}" for violation in error.violations]
        raise typer.BadParameter("\n".join(lines)) from error
    return cast("Options", options)


def _value(name: str, text: str) -> object:
    """The text as the option's type; as it is when it does not fit, for the check of the options to complain about."""
    field = FIELDS.get(name)
    if field is None:
        return text
    with contextlib.suppress(ValueError):
        if name in {"multi_scale_factors", "region_of_interest"}:
            return tuple(float(number) for number in text.strip("[]()").split(","))
        if field.type == FieldDescriptor.TYPE_DOUBLE or name == "processing_timeout":
            return float(text)
        if field.type == FieldDescriptor.TYPE_INT32:
            return int(text)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _BOOLS.get(text.lower(), text)
    return text.lower() if field.enum_type is not None else text
