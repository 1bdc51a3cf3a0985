"""Logs of the service: one line an event on standard error, for a person or for a machine."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

from opentelemetry import trace
from rich.console import Console
from rich.logging import RichHandler

from cutstream_server.telemetry.images import current_image

LINE_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s%(shown_ids)s"
TERMINAL_FORMAT = "%(message)s%(shown_ids)s"


def configure_logging(level: str, log_format: Literal["console", "json"]) -> None:
    """Sends the log of this process to standard error.

    Args:
        level: least level that is logged: debug, info, warning or error.
        log_format: `json` for one object a line; `console` for text, coloured where standard error is a terminal.
    """
    console = Console(stderr=True)
    handler: logging.Handler
    if log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
    elif console.is_terminal:
        # Markup would turn brackets of a caller's text into styles.
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=True, markup=False)
        handler.setFormatter(logging.Formatter(TERMINAL_FORMAT))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(LINE_FORMAT))
    handler.addFilter(add_ids)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Their lines below these levels tell of every request that they send.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def add_ids(record: logging.LogRecord) -> bool:
    """Notes which image and which trace a line is about; a filter that keeps every line.

    A filter and not a formatter, because it runs where the line was written, so that the context is that of the image.
    """
    image = current_image()
    span = trace.get_current_span().get_span_context()
    ids = {"image_id": image.image_id} if image and image.image_id else {}
    if span.is_valid:
        ids |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    record.ids = ids
    # An id is the caller's: as repr it cannot begin a line of its own.
    shown = " ".join(f"{name}={value!r}" if name == "image_id" else f"{name}={value}" for name, value in ids.items())
    record.shown_ids = f" [{shown}]" if ids else ""
    return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, `ids` and `fields` of the record, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Gives the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "ids", {}) | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
