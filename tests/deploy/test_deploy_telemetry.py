"""The configurations of collector, Jaeger, Prometheus and Grafana: whole in themselves, and agreeing with each other.

Collector, Jaeger and Grafana themselves come as images only. promtool reads the rest: test_deploy_alerts.py.
"""

import re

import pytest
import yaml
from running import ROOT

DEPLOY = ROOT / "deploy"
# What the pinned images hold: manifest.yaml of the collector's core distribution, all-in-one.yaml of Jaeger.
COMPONENTS = {
    "otel-collector": {"otlp", "batch", "memory_limiter", "otlp_grpc"},
    "jaeger": {"otlp", "batch", "jaeger_storage_exporter", "jaeger_storage", "jaeger_query", "healthcheckv2"},
}


def read(*path):
    return yaml.safe_load(DEPLOY.joinpath(*path).read_text())


def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("program", COMPONENTS)
def test_every_component_is_in_the_image(program):
    configuration = read(program, "config.yaml")
    named = {
        name.partition("/")[0]
        for kind in ("receivers", "processors", "exporters", "extensions")
        for name in configuration.get(kind, {})
    }
    assert named <= COMPONENTS[program]


@pytest.mark.parametrize("program", COMPONENTS)
def test_every_component_is_used_and_every_used_one_configured(program):
    configuration = read(program, "config.yaml")
    (pipeline,) = configuration["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(configuration[kind]) == set(pipeline[kind])
    assert set(configuration.get("extensions", {})) == set(configuration["service"].get("extensions", ()))


def test_the_memory_limiter_is_first():
    (pipeline,) = read("otel-collector", "config.yaml")["service"]["pipelines"].values()
    assert pipeline["processors"][0] == "memory_limiter"


def test_the_collector_sends_to_where_jaeger_listens():
    (exporter,) = read("otel-collector", "config.yaml")["exporters"].values()
    host, port = exporter["endpoint"].split(":")
    assert host in compose()
    assert read("jaeger", "config.yaml")["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(f":{port}")


def test_server_and_triton_send_to_where_the_collector_listens():
    listens = read("otel-collector", "config.yaml")["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    port = listens.rpartition(":")[2]
    environment = compose()["cutstream-server"]["environment"]
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://otel-collector:{port}"
    assert f"url=http://otel-collector:{port}/v1/traces" in (ROOT / "docker-compose.yml").read_text()


def test_prometheus_scrapes_services_that_exist_at_the_server_s_own_port():
    targets = [
        target
        for job in read("prometheus", "prometheus.yml")["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    hosts = {target.partition(":")[0] for target in targets}
    assert hosts <= {*compose(), "triton", "localhost"}
    port = compose()["cutstream-server"]["environment"]["CUTSTREAM_METRICS_LISTEN"].rpartition(":")[2]
    assert f"cutstream-server:{port}" in targets


def test_metrics_are_counted_once():
    assert compose()["cutstream-server"]["environment"]["OTEL_METRICS_EXPORTER"] == "none"


def test_a_point_on_a_dashboard_leads_to_the_traces():
    sources = read("grafana", "provisioning", "datasources", "datasources.yaml")["datasources"]
    by_name = {source["name"]: source for source in sources}
    (link,) = by_name["Prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert link == {"name": "trace_id", "datasourceUid": by_name["Jaeger"]["uid"]}


def test_grafana_looks_for_dashboards_where_they_are_mounted():
    (provider,) = read("grafana", "provisioning", "dashboards", "dashboards.yaml")["providers"]
    mounts = [volume.split(":") for volume in compose()["grafana"]["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"], "ro"] in mounts


def test_the_first_page_is_one_of_the_dashboards():
    path = compose()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana" / "dashboards" / re.sub(r".*/", "", path)).is_file()
