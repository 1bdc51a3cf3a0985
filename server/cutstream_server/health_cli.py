"""`cutstream-server health`: asks a service for its health, as container engines and people do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_TARGET = "127.0.0.1:50051"
TIMEOUT_SECONDS = 3.0
"""A healthy service answers within milliseconds; one under full load on two slow cores within half a second."""

# The service is on this machine or in this pod, whatever the environment says of proxies.
_CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


def _pem(help_text: str) -> Any:
    return typer.Option(exists=True, dir_okay=False, metavar="PEM", help=help_text)


def health(
    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the service.")] = DEFAULT_TARGET,
    alive: Annotated[
        bool, typer.Option("--alive", help="Any answer will do: a service that waits for Triton is alive, not ready.")
    ] = False,
    tls_ca: Annotated[Path | None, _pem("Use TLS, and trust these authorities.")] = None,
    tls_cert: Annotated[Path | None, _pem("Certificate to show to it.")] = None,
    tls_key: Annotated[Path | None, _pem("Key of that certificate.")] = None,
) -> None:
    """Ask a service for its health (grpc.health.v1): exit status 0 when it says SERVING, else 1.

    SERVING means that Triton has answered an inference. With TLS, the host of the target must be a name in the
    service's certificate: --target localhost:50051 where the certificate names localhost.
    """
    # Here and not above: a health check should not load what it does not use.
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    if tls_ca is None:
        if tls_cert or tls_key:
            raise typer.BadParameter("--tls-cert and --tls-key need --tls-ca")
        channel = grpc.insecure_channel(target, _CHANNEL_OPTIONS)
    else:
        ca, key, cert = (file.read_bytes() if file else None for file in (tls_ca, tls_key, tls_cert))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), _CHANNEL_OPTIONS)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            typer.echo(f"{target}: {error.code().name} {error.details()}", err=True)
            raise typer.Exit(1) from error
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(state)
    if not alive and answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(1)
