"""Logs of the service: one line an event on standard error."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

LINE_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Sends the log of this process to standard error: coloured for a person, plain lines for a file.

    Args:
        level: least level that is logged: debug, info, warning or error.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, rich_tracebacks=True)
        logging.basicConfig(level=level.upper(), handlers=[handler], format="%(message)s")
    else:
        logging.basicConfig(level=level.upper(), format=LINE_FORMAT)
    # Its INFO lines tell of every request to a model's source.
    logging.getLogger("httpx").setLevel(logging.WARNING)
