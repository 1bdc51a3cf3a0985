"""docker-compose.yml as Docker Compose itself reads it, for both profiles."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import ROOT

COMPOSE = Path(sys.executable).with_name("docker-compose")
# Of these images Compose can ask nothing: one ends by itself, the other holds a single program.
WITHOUT_HEALTH_CHECK = {"models", "otel-collector"}


def services(profile):
    """The services of a profile, merged and checked by Compose."""
    environment = {**os.environ, "COMPOSE_PROFILES": profile}
    command = [COMPOSE, "--project-directory", ROOT, "config", "--format", "json"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    return json.loads(run.stdout)["services"]


PROFILES = {profile: services(profile) for profile in ("cpu", "gpu")}
SERVICES = [
    pytest.param(profile, name, id=f"{profile}: {name}") for profile, found in PROFILES.items() for name in found
]


def test_a_clone_starts_on_the_cpu():
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_starts_its_triton_and_not_the_other(profile):
    other = {"cpu": "gpu", "gpu": "cpu"}[profile]
    assert f"triton-{profile}" in PROFILES[profile]
    assert f"triton-{other}" not in PROFILES[profile]


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_an_image_is_pinned_by_version(profile, name):
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-py3)?$", PROFILES[profile][name]["image"])


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(profile, name):
    service = PROFILES[profile][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_a_container_has_limits(profile, name):
    service = PROFILES[profile][name]
    assert int(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_a_port_is_published_on_this_machine_only(profile, name):
    assert all(port["host_ip"] == "127.0.0.1" for port in PROFILES[profile][name].get("ports", ()))


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_a_container_tells_of_its_health(profile, name):
    check = PROFILES[profile][name].get("healthcheck")
    assert (check is None or check.get("disable") is True) == (name in WITHOUT_HEALTH_CHECK)


@pytest.mark.parametrize(("profile", "name"), SERVICES)
def test_what_is_read_from_the_repository_is_there_and_is_only_read(profile, name):
    for volume in PROFILES[profile][name].get("volumes", ()):
        if volume["type"] == "bind":
            assert Path(volume["source"]).exists()
            assert volume["read_only"] is True


@pytest.mark.parametrize("profile", PROFILES)
def test_the_model_is_there_before_triton_and_triton_before_the_server(profile):
    found = PROFILES[profile]
    assert found[f"triton-{profile}"]["depends_on"]["models"]["condition"] == "service_completed_successfully"
    assert found["cutstream-server"]["depends_on"][f"triton-{profile}"]["condition"] == "service_healthy"


@pytest.mark.parametrize("profile", PROFILES)
def test_triton_reads_models_that_only_the_job_writes(profile):
    def mount(service):
        return next(volume for volume in PROFILES[profile][service]["volumes"] if volume["source"] == "models")

    assert mount(f"triton-{profile}")["read_only"] is True
    assert not mount("models").get("read_only")


def test_plain_text_is_allowed_by_name_and_only_for_the_server():
    allowed = [
        name
        for name, service in PROFILES["cpu"].items()
        if service.get("environment", {}).get("CUTSTREAM_ALLOW_INSECURE") == "true"
    ]
    assert allowed == ["cutstream-server"]


def test_triton_and_the_collector_are_on_the_inner_network_alone():
    for name in ("triton-cpu", "otel-collector"):
        assert set(PROFILES["cpu"][name]["networks"]) == {"backend"}
    assert yaml.safe_load((ROOT / "docker-compose.yml").read_text())["networks"]["backend"] == {"internal": True}


def test_the_server_has_time_to_drain():
    grace = PROFILES["cpu"]["cutstream-server"]["stop_grace_period"]
    assert re.fullmatch(r"\d+s", grace)
    assert int(grace[:-1]) > 30  # CUTSTREAM_DRAIN_SECONDS


def test_the_gpu_is_triton_s_and_its_configuration_the_gpu_one():
    triton = PROFILES["gpu"]["triton-gpu"]
    (device,) = triton["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert triton["command"] == ["--model-config-name=gpu"]
    assert (ROOT / "model_repository" / "isnet" / "configs" / "gpu.pbtxt").is_file()
