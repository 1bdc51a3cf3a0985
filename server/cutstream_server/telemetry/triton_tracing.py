"""Makes the embedded Triton send its own spans to where the service's go."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import urlsplit

from cutstream_server.telemetry.environment import OpenTelemetryVariables

logger = logging.getLogger(__name__)

TRACES_PATH: Final = "/v1/traces"
# The two ports that collectors listen on, for gRPC and for HTTP.
GRPC_PORT, HTTP_PORT = 4317, 4318


def triton_trace_arguments(variables: OpenTelemetryVariables) -> tuple[str, ...]:
    """Gives the arguments of tritonserver; none when tracing is off or Triton cannot reach the collector.

    Triton speaks OTLP over HTTP only, and sends no headers.
    """
    url = _trace_url(variables)
    if url is None:
        return ()
    if variables.exporter_otlp_traces_headers or variables.exporter_otlp_headers:
        logger.warning("Triton sends its spans without the headers of OTEL_EXPORTER_OTLP_HEADERS")
    values = (
        "mode=opentelemetry",
        f"opentelemetry,url={url}",
        "opentelemetry,resource=service.name=triton",
        "level=TIMESTAMPS",
        # Only the requests that bring a context, which sampled ones do.
        "rate=0",
    )
    return tuple(f"--trace-config={value}" for value in values)


def _trace_url(variables: OpenTelemetryVariables) -> str | None:
    protocol = variables.traces_protocol
    if protocol is None:
        return None
    own, common = variables.exporter_otlp_traces_endpoint, variables.exporter_otlp_endpoint
    if protocol == "grpc":
        return _beside(own or common)
    return own or f"{(common or f'http://localhost:{HTTP_PORT}').rstrip('/')}{TRACES_PATH}"


def _beside(endpoint: str) -> str | None:
    """The HTTP address of a collector whose gRPC address is known."""
    address = urlsplit(endpoint if "//" in endpoint else f"//{endpoint or 'localhost'}")
    if (address.port or GRPC_PORT) != GRPC_PORT:
        logger.warning("Triton sends no spans: it speaks OTLP over HTTP, and %s is a gRPC endpoint", endpoint)
        return None
    url = f"{address.scheme or 'http'}://{address.hostname}:{HTTP_PORT}{TRACES_PATH}"
    logger.info("Triton speaks OTLP over HTTP only: its spans go to %s", url)
    return url
