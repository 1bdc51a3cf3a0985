"""Which addresses processes listen on, as the kernel tells it."""

import contextlib
import ipaddress
from pathlib import Path

LISTEN = "0A"
"""The state in /proc/net/tcp."""


def listening(processes):
    """The (IP address, port) pairs of all TCP sockets on which one of the processes listens."""
    sockets = {inode for process in processes for inode in socket_inodes(process)}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {address(row[1]) for row in rows if row[3] == LISTEN and row[9] in sockets}


def socket_inodes(process):
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")


def address(text):
    """Reads "0100007F:1F90": words of 32 bits, each little-endian, then the port."""
    host, port = text.split(":")
    words = (bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8))
    found = ipaddress.ip_address(b"".join(words))
    return getattr(found, "ipv4_mapped", None) or found, int(port, 16)
