"""Which of the standard variables send what, and what the embedded Triton is told."""

import os
import sys

import pytest

from cutstream_server.settings import SettingsError, load_settings
from cutstream_server.telemetry.environment import load_variables
from cutstream_server.telemetry.start import start_telemetry
from cutstream_server.telemetry.triton_tracing import triton_trace_arguments

HTTP, GRPC = "http/protobuf", "grpc"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in os.environ:
        if name.startswith(("OTEL_", "CUTSTREAM_")):
            monkeypatch.delenv(name)


def load(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    return load_variables()


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({}, None, None),
        ({"SERVICE_NAME": "mine"}, None, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, HTTP, HTTP),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, HTTP, None),
        ({"EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, None, HTTP),
        ({"TRACES_EXPORTER": "otlp"}, HTTP, None),
        ({"METRICS_EXPORTER": "otlp"}, None, HTTP),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "METRICS_EXPORTER": "none"}, HTTP, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4317", "EXPORTER_OTLP_PROTOCOL": GRPC}, GRPC, GRPC),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4317", "EXPORTER_OTLP_TRACES_PROTOCOL": GRPC}, GRPC, HTTP),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "SDK_DISABLED": "true"}, None, None),
    ],
)
def test_a_signal_is_sent_where_an_exporter_or_an_endpoint_is_named(monkeypatch, variables, traces, metrics):
    loaded = load(monkeypatch, variables)
    assert (loaded.traces_protocol, loaded.metrics_protocol) == (traces, metrics)


@pytest.mark.parametrize(
    ("name", "value"), [("TRACES_EXPORTER", "zipkin"), ("EXPORTER_OTLP_PROTOCOL", "http/json"), ("SDK_DISABLED", "?")]
)
def test_a_value_that_is_not_supported_names_its_variable(monkeypatch, name, value):
    with pytest.raises(SettingsError, match=f"OTEL_{name}"):
        load(monkeypatch, {name: value})


def test_a_protocol_whose_package_is_missing_is_named_with_the_package(monkeypatch):
    variables = load(monkeypatch, {"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_PROTOCOL": "grpc"})
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(SettingsError, match="opentelemetry-exporter-otlp-proto-grpc"):
        start_telemetry(load_settings(), variables)


def test_nothing_is_started_unless_asked_for(monkeypatch):
    running = start_telemetry(load_settings(), load(monkeypatch, {}))
    assert (running.tracer_provider, running.meter_provider, running.endpoint) == (None, None, None)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({"TRACES_EXPORTER": "otlp"}, "cutstream-server"), ({"TRACES_EXPORTER": "otlp", "SERVICE_NAME": "mine"}, "mine")],
)
def test_the_service_has_a_name_that_can_be_changed(monkeypatch, variables, expected):
    running = start_telemetry(load_settings(), load(monkeypatch, variables))
    running.close()
    assert running.tracer_provider.resource.attributes["service.name"] == expected


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "https://c:4318/"}, "https://c:4318/v1/traces"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:9/spans"}, "http://c:9/spans"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4317", "EXPORTER_OTLP_PROTOCOL": GRPC}, "http://c:4318/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "c:4317", "EXPORTER_OTLP_PROTOCOL": GRPC}, "http://c:4318/v1/traces"),
        ({"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_PROTOCOL": GRPC}, "http://localhost:4318/v1/traces"),
    ],
)
def test_triton_sends_to_the_same_collector_over_http(monkeypatch, variables, url):
    assert f"--trace-config=opentelemetry,url={url}" in triton_trace_arguments(load(monkeypatch, variables))


def test_headers_that_triton_cannot_send_are_told_of(monkeypatch, caplog):
    triton_trace_arguments(load(monkeypatch, {"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_HEADERS": "key=secret"}))
    assert "OTEL_EXPORTER_OTLP_HEADERS" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"EXPORTER_OTLP_ENDPOINT": "http://c:4318", "TRACES_EXPORTER": "none"},
        {"EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"},
        {"EXPORTER_OTLP_ENDPOINT": "http://c:5555", "EXPORTER_OTLP_PROTOCOL": GRPC},
    ],
)
def test_triton_traces_nothing_when_tracing_is_off_or_it_cannot_reach_the_collector(monkeypatch, variables):
    assert triton_trace_arguments(load(monkeypatch, variables)) == ()
