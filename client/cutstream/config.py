"""How a client connects: one frozen object per concern, with units in the names and the reason beside each default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os


@dataclass(frozen=True)
class TLSConfig:
    """Encryption and identity. `TLSConfig()` trusts the system's certificate authorities and shows no certificate.

    Raises:
        ValueError: only one of certificate and key is given.

    Example:
        >>> tls = TLSConfig(server_name="cutstream.internal")
        >>> tls.root_ca_pem is None
        True
    """

    root_ca_pem: bytes | None = None
    """Certificate authorities that may vouch for the server, PEM. None: those of the system."""

    client_cert_pem: bytes | None = None
    """Certificate chain shown to the server (mutual TLS), PEM."""

    client_key_pem: bytes | None = field(default=None, repr=False)
    """Private key of that certificate, PEM."""

    server_name: str | None = None
    """Name that the server's certificate must carry, where it is not the host of the target."""

    def __post_init__(self) -> None:
        if (self.client_cert_pem is None) != (self.client_key_pem is None):
            raise ValueError("mutual TLS needs both a client certificate and its key")

    @classmethod
    def from_files(
        cls,
        root_ca: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> TLSConfig:
        """The same from PEM files; OSError when one cannot be read."""
        root_ca_pem, client_cert_pem, client_key_pem = (
            None if path is None else Path(path).read_bytes() for path in (root_ca, client_cert, client_key)
        )
        return cls(root_ca_pem, client_cert_pem, client_key_pem, server_name)


@dataclass(frozen=True)
class KeepAliveConfig:
    """HTTP/2 pings that keep a quiet connection open and find a dead one."""

    interval_seconds: float = 330.0
    """Silence before a ping. A gRPC server with default settings disconnects clients that ping more often than every
    300 s; common cloud load balancers drop connections silent for 350 s."""

    timeout_seconds: float = 20.0
    """How long a ping may stay unanswered before the connection counts as dead: gRPC's own default."""

    without_calls: bool = False
    """Ping also while no call is open. A gRPC server with default settings disconnects clients that do."""


@dataclass(frozen=True)
class RetryConfig:
    """How failures that may pass are retried: full jitter, a wait of random length between 0 and the current back-off.

    What is retried follows from the reason, see `CutoutError.retryable`; INTERNAL_FAULT is retried once. The caller's
    deadlines (`timeout_seconds`, `image_timeout_seconds`) bound all attempts of an image together.

    Raises:
        ValueError: a number is out of its range.
    """

    max_attempts: int | None = 10
    """Most times that one image is sent, the first included; 1 never retries, with None time alone decides. With the
    other defaults ten attempts wait 30 s on average, which covers a model that is being restarted."""

    initial_backoff_seconds: float = 0.25
    """Longest wait before the second attempt: a replica that drains is replaced by another at once."""

    max_backoff_seconds: float = 15.0
    """Longest wait before any attempt, except where the server asks for more (OVERLOADED)."""

    backoff_multiplier: float = 2.0
    """Growth of the back-off from attempt to attempt."""

    unreachable_seconds: float = 60.0
    """How long to keep connecting while no server can be reached, before the images that wait for it fail with
    SERVER_UNREACHABLE: a server that restarts and loads its model needs some 10 s, a rescheduled pod up to 60."""

    def __post_init__(self) -> None:
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
        if not 0 < self.initial_backoff_seconds <= self.max_backoff_seconds:
            raise ValueError("initial_backoff_seconds must be above 0 and at most max_backoff_seconds")
        if self.backoff_multiplier < 1:
            raise ValueError("backoff_multiplier must be at least 1")
        if self.unreachable_seconds < 0:
            raise ValueError("unreachable_seconds must be at least 0")


@dataclass(frozen=True)
class LoadBalancingConfig:
    """How calls spread over the servers behind a target. One stream stays on one server."""

    policy: Literal["round_robin", "pick_first"] = "round_robin"
    """round_robin: calls take turns over all servers that are up. pick_first: the first server that answers."""

    health_check: bool = True
    """With round_robin: use only servers whose grpc.health.v1 service says SERVING."""
