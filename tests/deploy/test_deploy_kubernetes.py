"""The overlays as kustomize renders them, held against Kubernetes' own schemas and against what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from queries import ALERTS
from running import ROOT

from cutstream_server.settings import Settings

KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
# The oldest has preStop sleep; the newest is what the checker ships.
VERSIONS = ("1.30", "1.37")
# Kinds of operators, whose schemas no package ships.
FOREIGN = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
SECRETS = ("cutstream-tls", "cutstream-tokens")


def render(folder):
    run = subprocess.run([KUBECTL, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    return list(yaml.safe_load_all(run.stdout))


OVERLAYS = {folder.name: render(folder) for folder in sorted((KUBERNETES / "overlays").iterdir())}
RESOURCES = [
    pytest.param(resource, id=f"{overlay}: {resource['kind']} {resource['metadata']['name']}")
    for overlay, resources in OVERLAYS.items()
    for resource in resources
]
PODS = [
    pytest.param(resource["spec"]["template"]["spec"], id=f"{overlay}: {resource['metadata']['name']}")
    for overlay, resources in OVERLAYS.items()
    for resource in resources
    if resource["kind"] in {"Deployment", "Job"}
]


def find(kind, name, overlay="gpu"):
    return next(r for r in OVERLAYS[overlay] if r["kind"] == kind and r["metadata"]["name"].startswith(name))


def server_container(overlay="gpu"):
    (container,) = find("Deployment", "cutstream-server", overlay)["spec"]["template"]["spec"]["containers"]
    return container


def settings(overlay="gpu"):
    return find("ConfigMap", "cutstream-settings", overlay)["data"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resource", RESOURCES)
def test_a_resource_fits_the_schema(resource, version):
    if resource["kind"] in FOREIGN:
        with pytest.raises(kubernetes_validate.SchemaNotFoundError):
            kubernetes_validate.validate(resource, version, strict=True)
    else:
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("resource", RESOURCES)
def test_everything_is_in_the_namespace(resource):
    name = resource["metadata"]["name"] if resource["kind"] == "Namespace" else resource["metadata"]["namespace"]
    assert name == "cutstream"


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_meets_the_restricted_standard(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_gets_nothing_from_the_cluster_that_it_does_not_use(pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("pod", PODS)
def test_an_image_is_pinned_and_its_memory_bounded(pod):
    for container in pod["containers"] + pod.get("initContainers", []):
        assert re.search(r":\d+\.\d+(\.\d+)?(-py3)?$", container["image"])
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_of_the_service(overlay):
    names = {name for name in settings(overlay) if not name.startswith("OTEL_")}
    assert names <= {f"CUTSTREAM_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_is_encrypted_and_asks_for_tokens(overlay):
    assert {"CUTSTREAM_TLS_CERT", "CUTSTREAM_TLS_KEY", "CUTSTREAM_TOKENS_FILE"} <= set(settings(overlay))
    assert "CUTSTREAM_ALLOW_INSECURE" not in settings(overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_files_of_the_settings_are_mounted_from_secrets(overlay):
    mounts = {mount["mountPath"] for mount in server_container(overlay)["volumeMounts"]}
    for name in ("CUTSTREAM_TLS_CERT", "CUTSTREAM_TLS_KEY", "CUTSTREAM_TOKENS_FILE"):
        assert str(Path(settings(overlay)[name]).parent) in mounts
    volumes = find("Deployment", "cutstream-server", overlay)["spec"]["template"]["spec"]["volumes"]
    secrets = [volume["secret"] for volume in volumes if "secret" in volume]
    assert {secret["secretName"] for secret in secrets} == set(SECRETS)
    # The group of the pod's files reads, others do not.
    assert {secret["defaultMode"] for secret in secrets} == {0o440}


def test_the_probe_of_a_service_with_tls_asks_by_tls():
    command = server_container()["readinessProbe"]["exec"]["command"]
    assert command[:2] == ["cutstream-server", "health"]
    assert command[command.index("--tls-ca") + 1] == "/etc/cutstream/tls/ca.crt"
    assert "grpc" not in server_container()["readinessProbe"]


def test_in_a_mesh_the_api_is_plain_and_the_probe_is_grpc(tmp_path):
    base, mesh = (os.path.relpath(KUBERNETES / name, tmp_path) for name in ("base", "components/mesh"))
    overlay = {"kind": "Kustomization", "resources": [base], "components": [mesh]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    rendered = {(resource["kind"], resource["metadata"]["name"]): resource for resource in render(tmp_path)}
    (container,) = rendered["Deployment", "cutstream-server"]["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["grpc"] == {"port": 50051}
    (data,) = [resource["data"] for (kind, _), resource in rendered.items() if kind == "ConfigMap"]
    assert data["CUTSTREAM_ALLOW_INSECURE"] == "true"
    assert "CUTSTREAM_TLS_CERT" not in data


def test_a_server_is_not_restarted_because_triton_is_away():
    assert "--alive" in server_container()["livenessProbe"]["exec"]["command"]


def test_a_server_has_time_to_drain():
    pod = find("Deployment", "cutstream-server")["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause + int(settings()["CUTSTREAM_DRAIN_SECONDS"]) + 10


@pytest.mark.parametrize("name", ["cutstream-server", "triton"])
def test_clients_see_every_pod(name):
    assert find("Service", name)["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", ["cutstream-server", "triton"])
def test_a_drained_node_takes_one_pod_at_a_time(name):
    budget = find("PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] == 1
    labels = find("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["cutstream-server", "triton"])
def test_both_are_scaled_and_watched(name):
    assert find("ScaledObject", name)["spec"]["scaleTargetRef"] == {"name": name}
    labels = find("Service", name)["metadata"]["labels"]
    assert find("ServiceMonitor", name)["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_nothing_is_reached_that_no_policy_names():
    assert find("NetworkPolicy", "default-deny")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_servers_reach_triton():
    ingress = find("NetworkPolicy", "triton")["spec"]["ingress"]
    (rule,) = [rule for rule in ingress if rule["ports"] == [{"port": "grpc"}]]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "cutstream-server"}}}]


def test_the_gpu_overlay_asks_for_a_gpu_and_its_configuration():
    (triton,) = find("Deployment", "triton")["spec"]["template"]["spec"]["containers"]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--model-config-name=gpu" in triton["args"]


def test_the_alerts_are_those_of_prometheus():
    assert find("PrometheusRule", "cutstream")["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]


@pytest.mark.parametrize("name", ["service", "quality", "triton"])
def test_the_dashboards_are_those_of_grafana(name):
    data = find("ConfigMap", "cutstream-dashboards")["data"]
    assert data[f"{name}.json"] == (ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json").read_text()
