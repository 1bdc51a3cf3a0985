"""From the settings to what tells about the service."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer

from cutstream_server import __version__
from cutstream_server.settings import Settings, SettingsError
from cutstream_server.telemetry.environment import OpenTelemetryVariables, Protocol
from cutstream_server.telemetry.images import Telemetry
from cutstream_server.telemetry.metrics import Metrics
from cutstream_server.telemetry.prometheus import PrometheusEndpoint

logger = logging.getLogger(__name__)

NAME: Final = "cutstream-server"
EXPORTERS: Final[dict[Protocol, str]] = {
    "http/protobuf": "opentelemetry-exporter-otlp-proto-http",
    "grpc": "opentelemetry-exporter-otlp-proto-grpc",
}
"""The packages; the second one is not installed with the server."""

CLOSE_SECONDS: Final = 5.0
"""A collector that is there takes the rest in a fraction of it; a stop must not wait for one that is not."""


@dataclass(frozen=True)
class RunningTelemetry:
    """What sends and serves in the background.

    Attributes:
        telemetry: what the service is given.
    """

    telemetry: Telemetry
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    endpoint: PrometheusEndpoint | None

    def close(self) -> None:
        """Sends what is left and ends; blocks for `CLOSE_SECONDS` at most."""
        closing = [part.shutdown for part in (self.tracer_provider, self.meter_provider) if part]
        closing += [self.endpoint.close] if self.endpoint else []
        # Threads that do not hold up the end of the process: an exporter tries for longer when nobody listens.
        threads = [threading.Thread(target=close, daemon=True) for close in closing]
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            logger.warning("the last traces and metrics could not be sent within %g s", CLOSE_SECONDS)


def start_telemetry(settings: Settings, variables: OpenTelemetryVariables) -> RunningTelemetry:
    """Starts what the settings and the standard variables ask for.

    Raises:
        SettingsError: an exporter is not installed, or the Prometheus endpoint's address cannot be used.
    """
    resource = _resource()
    tracer_provider = _tracer_provider(variables, resource)
    readers, scraped = _readers(settings, variables)
    meter_provider = MeterProvider(readers, resource, shutdown_on_exit=False) if readers else None
    endpoint = None
    if scraped and settings.metrics_listen:
        try:
            endpoint = PrometheusEndpoint(settings.metrics_listen, scraped, resource)
        except OSError as error:
            text = f"cannot listen on CUTSTREAM_METRICS_LISTEN={settings.metrics_listen}: {error}"
            raise SettingsError(text) from error
    meter = meter_provider.get_meter(NAME, __version__) if meter_provider else NoOpMeter(NAME)
    tracer = tracer_provider.get_tracer(NAME, __version__) if tracer_provider else NoOpTracer()
    telemetry = Telemetry(tracer, Metrics(meter), settings.log_images)
    return RunningTelemetry(telemetry, tracer_provider, meter_provider, endpoint)


def _resource() -> Resource:
    """What the variables say of the service, and its name and version where they say none."""
    found = Resource.create({"service.version": __version__})
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        return found.merge(Resource({"service.name": NAME}))
    return found


def _tracer_provider(variables: OpenTelemetryVariables, resource: Resource) -> TracerProvider | None:
    protocol = variables.traces_protocol
    if protocol is None:
        return None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(protocol, "trace_exporter", "OTLPSpanExporter")))
    logger.info("traces are sent by OTLP, %s", protocol)
    return provider


def _readers(
    settings: Settings, variables: OpenTelemetryVariables
) -> tuple[list[MetricReader], InMemoryMetricReader | None]:
    """All readers of the metrics, and the one among them that Prometheus scrapes."""
    readers: list[MetricReader] = []
    scraped = None
    if settings.metrics_listen:
        scraped = InMemoryMetricReader()
        readers.append(scraped)
    protocol = variables.metrics_protocol
    if protocol is not None:
        readers.append(PeriodicExportingMetricReader(_exporter(protocol, "metric_exporter", "OTLPMetricExporter")))
        logger.info("metrics are sent by OTLP, %s", protocol)
    return readers, scraped


def _exporter(protocol: Protocol, module: str, name: str) -> Any:
    """Makes an exporter of the package for a protocol; it reads the rest of its variables itself."""
    package = f"opentelemetry.exporter.otlp.proto.{'grpc' if protocol == 'grpc' else 'http'}.{module}"
    try:
        return getattr(importlib.import_module(package), name)()
    except ImportError as error:
        text = f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} needs the package {EXPORTERS[protocol]}: install it"
        raise SettingsError(text) from error
