"""The servers behind a target, one by one, so that each can have a stream of its own."""

from __future__ import annotations

import asyncio
import socket

_NAME = "dns:"
_LIST = "ipv4:"


async def find_servers(address: str) -> list[str]:
    """The addresses of a list or of a name, sorted; a name is looked up anew each time.

    Args:
        address: a target in gRPC's notation.

    Returns:
        host:port of each; empty when the address is something else, or only gRPC can look the name up.
    """
    if address.startswith(_LIST):
        return sorted(set(address.removeprefix(_LIST).split(",")))
    host, port = authority(address).rpartition(":")[::2]
    if not host:
        return []
    try:
        # IPv4, as for lists: gRPC takes either family in one list of addresses only.
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]"), port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError:
        return []
    return sorted({f"{entry[4][0]}:{port}" for entry in found})


def authority(address: str) -> str:
    """host:port of a name that this machine can look up; empty for any other address."""
    if not address.startswith(_NAME):
        return ""
    server, _, name = address.removeprefix(_NAME).removeprefix("//").rpartition("/")
    # dns://SERVER/name asks a name server of the caller's choice.
    return "" if server else name
