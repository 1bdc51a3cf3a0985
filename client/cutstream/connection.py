"""The channel to one server or a pool: target, credentials, keep-alive, load balancing, readiness."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import grpc

from cutstream.config import KeepAliveConfig, LoadBalancingConfig, RetryConfig, TLSConfig
from cutstream.convert import error_from_rpc
from cutstream.errors import MODEL_UNAVAILABLE, SERVER_UNREACHABLE, CutoutError
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from cutstream.v1.cutstream_pb2_grpc import BackgroundRemovalServiceAsyncStub

Token: TypeAlias = "str | Callable[[], str]"  # noqa: S105 - a type
"""A bearer token, or a function that is asked for it before every call, so that a rotated one is used."""

SERVICE = pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"].full_name
DEFAULT_TARGET = "localhost:50051"
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:")

# A unary cutout has up to 4 MiB and its metrics come on top; gRPC's default limit is those 4 MiB.
_MAX_RECEIVE_BYTES = 64 * 1024 * 1024
# gRPC's own wait between connection attempts grows to 2 minutes: a server that came back would be found late.
_MAX_RECONNECT_MILLISECONDS = 2000
_INITIAL_RECONNECT_MILLISECONDS = 100
_HEALTH_POLL_SECONDS = 0.2
_HEALTH_CALL_SECONDS = 2.0

# grpc.health.v1 by hand: its two messages have one field each, and a package for them would be one more dependency.
# HealthCheckRequest{service = 1}, HealthCheckResponse{status = 1}.
_HEALTH_METHOD = "/grpc.health.v1.Health/Check"
_HEALTH_REQUEST = b"\x0a" + bytes([len(SERVICE)]) + SERVICE.encode()
_HEALTH_SERVING = b"\x08\x01"


# In a process that was forked from one that had used gRPC, gRPC crashes or waits for ever, for new clients too.
_used_here = False
_used_before_fork = False


def _note_fork() -> None:
    global _used_before_fork  # noqa: PLW0603 - a fact about the process
    _used_before_fork = _used_here


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_note_fork)


def refuse_after_fork() -> None:
    """RuntimeError in a process that was forked from one that had used gRPC."""
    if _used_before_fork:
        raise RuntimeError(
            "this process was forked from one that had used a client, and gRPC does not work here: start workers by "
            '"spawn" or "forkserver", or make the first client in the workers'
        )


class Connection:
    """An open channel with the stub on it; made and used on one event loop.

    Args:
        target: the address for people.
        address: the same, or some of its servers, in gRPC's notation.
        authority: host:port that the servers are called by, where the address does not say it.
    """

    def __init__(
        self,
        target: str,
        address: str,
        *,
        authority: str = "",
        tls: TLSConfig | None,
        token: Token | None,
        keep_alive: KeepAliveConfig,
        retry: RetryConfig,
        load_balancing: LoadBalancingConfig | None,
    ) -> None:
        global _used_here  # noqa: PLW0603 - a fact about the process
        refuse_after_fork()
        _used_here = True
        self.target = target
        self.retry = retry
        self._token = token
        options = channel_options(keep_alive, load_balancing, tls)
        if authority:
            options.append(("grpc.default_authority", authority))
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(tls.root_ca_pem, tls.client_key_pem, tls.client_cert_pem)
            self._channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.stub: BackgroundRemovalServiceAsyncStub = pb_grpc.BackgroundRemovalServiceStub(self._channel)
        self._check_health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_HEALTH_METHOD)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries: the token, asked for anew. ValueError when that cannot be sent."""
        if self._token is None:
            return ()
        token = self._token if isinstance(self._token, str) else self._token()
        check_token_can_be_sent(token)
        return (("authorization", f"Bearer {token}"),)

    async def reach(self) -> None:
        """Returns once a server is connected.

        Raises:
            CutoutError: SERVER_UNREACHABLE after `RetryConfig.unreachable_seconds`, with gRPC's own last words.
        """
        seconds = self.retry.unreachable_seconds
        try:
            await asyncio.wait_for(self._channel.channel_ready(), seconds)
        except TimeoutError as error:
            raise await self._unreachable(f"no connection to {self.target} within {seconds:g} s") from error

    async def wait_serving(self, timeout_seconds: float) -> None:
        """Returns once the server's health is SERVING.

        Raises:
            CutoutError: SERVER_UNREACHABLE or MODEL_UNAVAILABLE when it is not in time; at once the server's error when
                waiting cannot help, such as UNAUTHENTICATED or, without a health service, UNIMPLEMENTED.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while True:
            failure = await self._health_failure()
            if failure is None:
                return
            if not failure.retryable or loop.time() + _HEALTH_POLL_SECONDS > end:
                raise failure
            await asyncio.sleep(_HEALTH_POLL_SECONDS)

    async def close(self) -> None:
        """Ends all calls and the connection."""
        await self._channel.close()

    async def _health_failure(self) -> CutoutError | None:
        try:
            answer: bytes = await self._check_health(
                _HEALTH_REQUEST, timeout=_HEALTH_CALL_SECONDS, metadata=self.metadata()
            )
        except grpc.aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                return error_from_rpc(error)
            return _server_unreachable(f"no connection to {self.target}: {error.details()}", error)
        if answer == _HEALTH_SERVING:
            return None
        return CutoutError(
            MODEL_UNAVAILABLE, f"{self.target} answers but is not ready", code=grpc.StatusCode.UNAVAILABLE
        )

    async def _unreachable(self, message: str) -> CutoutError:
        """The error, with the reason that only a failing call tells: refused, unknown name, untrusted certificate."""
        try:
            await self._check_health(_HEALTH_REQUEST, timeout=_HEALTH_CALL_SECONDS, metadata=self.metadata())
        except grpc.aio.AioRpcError as error:
            return _server_unreachable(f"{message}: {error.details()}", error)
        return _server_unreachable(message, None)


def channel_options(
    keep_alive: KeepAliveConfig, load_balancing: LoadBalancingConfig | None, tls: TLSConfig | None
) -> list[tuple[str, int | str]]:
    """The options of gRPC's core for these settings."""
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", round(keep_alive.interval_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(keep_alive.timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", int(keep_alive.without_calls)),
        # Without it pings stop after two without data, and a slow producer's stream dies of its silence.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", _INITIAL_RECONNECT_MILLISECONDS),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MILLISECONDS),
    ]
    if load_balancing is not None:
        config: dict[str, object] = {"loadBalancingConfig": [{load_balancing.policy: {}}]}
        if load_balancing.health_check:
            config["healthCheckConfig"] = {"serviceName": SERVICE}
        options.append(("grpc.service_config", json.dumps(config)))
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def is_pool(target: str) -> bool:
    """Whether the target may name several servers: a comma list, or a name said to be one of DNS by its scheme."""
    return "," in target or target.startswith("dns:")


def grpc_target(target: str) -> str:
    """The target in gRPC's own notation: a comma list becomes addresses, anything else stays.

    gRPC has no notation for several host names, so those of a list are looked up here, once.

    Raises:
        ValueError: an entry of a list is not host:port, or its host is unknown.
    """
    if "," not in target or target.startswith(_SCHEMES):
        return target
    addresses = []
    for entry in target.split(","):
        host, colon, port = entry.strip().rpartition(":")
        if not colon or not port.isdecimal():
            raise ValueError(f"{entry.strip()!r} in target {target!r} is not host:port")
        try:
            # gRPC takes either family in one list only; IPv4 is what host names nearly always have.
            address = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        except OSError as error:
            raise ValueError(f"host {host!r} in target {target!r} is unknown: {error}") from error
        addresses.append(f"{address}:{port}")
    return "ipv4:" + ",".join(addresses)


def check_token_can_be_sent(token: str) -> None:
    """ValueError when it is none that a call can carry; gRPC's own error would come late and say nothing."""
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("the token is empty or has spaces, line ends or characters other than ASCII")


def check_token_is_safe(target: str, tls: TLSConfig | None, token: Token | None) -> None:
    """ValueError when a token cannot be sent, or would leave this machine unencrypted."""
    if isinstance(token, str):
        check_token_can_be_sent(token)
    if token is None or tls is not None:
        return
    if target.startswith("unix:"):
        return
    addresses = re.sub(r"^(dns|ipv4|ipv6):(//[^/]*/)?", "", target)
    for entry in addresses.split(","):
        host = entry.strip().rpartition(":")[0].strip("[]")
        if host != "localhost" and not _is_loopback(host):
            raise ValueError(
                f"a token for {host or entry!r} needs TLS: without it anyone on the way could read the token"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _server_unreachable(message: str, cause: grpc.aio.AioRpcError | None) -> CutoutError:
    failure = CutoutError(SERVER_UNREACHABLE, message, code=grpc.StatusCode.UNAVAILABLE)
    failure.__cause__ = cause
    return failure
