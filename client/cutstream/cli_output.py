"""What the commands print."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.text import Text

from cutstream.errors import CutoutError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_HINTS: Mapping[str, str] = {
    "SERVER_UNREACHABLE": "start a server with `cutstream-server serve`, or name one with --target",
    "MODEL_UNAVAILABLE": "the server's model is not ready: `cutstream info` shows its state",
    "OVERLOADED": "the server is busy: try again later",
    "UNAUTHENTICATED": "this server asks for a token (--token-file) or a certificate (--tls-cert, --tls-key)",
    "PERMISSION_DENIED": "this server's operator has to give the token that right",
    "UNKNOWN_MODEL": "`cutstream info` lists the models",
    "UNSUPPORTED_FORMAT": "`cutstream info` lists the formats that the server reads",
    "IMAGE_TOO_LARGE": "`cutstream info` shows the server's limits",
    "NO_OBJECT": "try a lower --set mask_threshold, or --set framing=full to see the mask",
    "DEADLINE": "allow more time with --timeout",
}

_HINTS_BY_WORDS: Mapping[str, str] = {
    # gRPC tells of a failed handshake in its own words only.
    "CERTIFICATE_VERIFY_FAILED": "the authority in --tls-ca does not vouch for this server under this name, or not now",
    "WRONG_VERSION_NUMBER": "this server talks plain text: leave out --tls and the files of certificates",
    "Failed to create security handshaker": "--tls-ca, --tls-cert, --tls-key must be PEM files, and the key fit",
    "Socket closed": "the server may ask for TLS (--tls, --tls-ca) or for a certificate (--tls-cert, --tls-key)",
}


def to_json(value: DataclassInstance) -> dict[str, object]:
    """The dataclass as JSON's types, without what is not known and without bytes."""
    return cast("dict[str, object]", _plain(dataclasses.asdict(value)))


def json_line(value: Mapping[str, object]) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def error_json(error: CutoutError) -> dict[str, object]:
    """The error's parts as JSON's types."""
    parts: dict[str, object] = {"reason": error.reason, "code": error.code.name, "message": error.message}
    if error.metadata:
        parts["metadata"] = error.metadata
    if error.violations:
        parts["violations"] = [to_json(violation) for violation in error.violations]
    if error.metrics is not None:
        parts["metrics"] = to_json(error.metrics)
    return parts


def print_error(error: CutoutError, name: str = "") -> None:
    """The error in a line on standard error, and in a second one what can be done."""
    console = Console(stderr=True, soft_wrap=True)
    line = Text("error: ", style="bold red")
    line.append(f"{name}: " if name else "", style="bold").append(f"{error.reason}: {error.message}", style="default")
    if error.metadata:
        line.append(f" ({', '.join(f'{key}={value}' for key, value in sorted(error.metadata.items()))})", style="dim")
    console.print(line)
    hint = next((hint for words, hint in _HINTS_BY_WORDS.items() if words in error.message), _HINTS.get(error.reason))
    if hint is not None:
        console.print(Text(f"  {hint}"))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None and not isinstance(item, bytes)}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
