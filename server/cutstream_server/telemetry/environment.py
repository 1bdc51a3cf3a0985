"""Whether traces and metrics are sent by OTLP: what the standard `OTEL_*` variables say.

Where to, with which headers, how often and which share of the traces is read by the OpenTelemetry SDK itself.
"""

from __future__ import annotations

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict

from cutstream_server.settings import read_environment

Protocol = Literal["http/protobuf", "grpc"]


class OpenTelemetryVariables(BaseSettings):
    """The variables that decide whether a signal is sent, and how."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", env_ignore_empty=True, extra="ignore", frozen=True)

    sdk_disabled: bool = False
    traces_exporter: Literal["otlp", "none"] | None = None
    metrics_exporter: Literal["otlp", "none"] | None = None
    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_metrics_endpoint: str = ""
    exporter_otlp_protocol: Protocol = "http/protobuf"
    exporter_otlp_traces_protocol: Protocol | None = None
    exporter_otlp_metrics_protocol: Protocol | None = None
    exporter_otlp_headers: str = ""
    exporter_otlp_traces_headers: str = ""

    @property
    def traces_protocol(self) -> Protocol | None:
        """How traces are sent; None: not at all."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        protocol = self.exporter_otlp_traces_protocol or self.exporter_otlp_protocol
        return protocol if self._is_on(self.traces_exporter, endpoint) else None

    @property
    def metrics_protocol(self) -> Protocol | None:
        """How metrics are sent; None: not at all."""
        endpoint = self.exporter_otlp_metrics_endpoint or self.exporter_otlp_endpoint
        protocol = self.exporter_otlp_metrics_protocol or self.exporter_otlp_protocol
        return protocol if self._is_on(self.metrics_exporter, endpoint) else None

    def _is_on(self, exporter: str | None, endpoint: str) -> bool:
        """An exporter that is named decides, else an endpoint: without either, nobody is known to listen."""
        wanted = exporter == "otlp" if exporter else bool(endpoint)
        return wanted and not self.sdk_disabled


def load_variables() -> OpenTelemetryVariables:
    """Reads and checks them.

    Raises:
        SettingsError: with one line that names each wrong variable.
    """
    return read_environment(OpenTelemetryVariables)
