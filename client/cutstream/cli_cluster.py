"""`cutstream bulk --engine ray`: from what was typed to what the workers of a cluster are told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cutstream.bulk.ray_worker import Orders

if TYPE_CHECKING:
    from cutstream.bulk.run import RunSettings
    from cutstream.bulk.sources import Listing
    from cutstream.client import Client

_PREFIX = "CUTSTREAM_"
# Of this command, or of servers that others reach.
_NOT_OF_A_NODES_SERVER = frozenset(
    _PREFIX + name
    for name in ("TARGET", "LISTEN", "METRICS_LISTEN", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TOKENS_FILE")
)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what its workers do."""

    address: str | None
    """None: that of RAY_ADDRESS, else one of this machine alone."""
    workers: int | None
    """Most of them; None: one for each node."""
    target: str | None
    """The service that the workers call; None: each starts a server of its own."""
    connect: Callable[[str], Client]
    """Makes a client of a target, on any node."""

    def orders(self, listing: Listing, output: str, suffix: str, settings: RunSettings) -> Orders:
        """What the workers are told; `output` is OUT as all nodes reach it."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(_PREFIX) and name not in _NOT_OF_A_NODES_SERVER
        }
        source = listing.storage.name(listing.base)
        return Orders(source, output, suffix, settings, self.connect, self.target, environment)
