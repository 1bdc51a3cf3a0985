"""`cutstream-server health` against a real gRPC server: its exit status is what container engines go by."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import Authority
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from cutstream_server.cli import app

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def service():
    """Starts a server of the health protocol; gives its port."""
    servers = []

    def start(status, credentials=None):
        servicer = health.HealthServicer()
        servicer.set(health.OVERALL_HEALTH, status)
        server = grpc.server(ThreadPoolExecutor(1))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        servers.append(server)
        port = (
            server.add_secure_port("127.0.0.1:0", credentials)
            if credentials
            else server.add_insecure_port("127.0.0.1:0")
        )
        server.start()
        return port

    yield start
    for server in servers:
        server.stop(None)


def ask(*arguments):
    return CliRunner().invoke(app, ["health", *arguments])


def test_a_service_that_serves_is_healthy(service):
    result = ask("--target", f"127.0.0.1:{service(SERVING)}")
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_a_service_that_waits_for_triton_is_not(service):
    result = ask("--target", f"127.0.0.1:{service(NOT_SERVING)}")
    assert (result.exit_code, result.output) == (1, "NOT_SERVING\n")


def test_a_service_that_waits_for_triton_is_alive(service):
    assert ask("--alive", "--target", f"127.0.0.1:{service(NOT_SERVING)}").exit_code == 0


@pytest.mark.parametrize("flags", [[], ["--alive"]])
def test_where_nothing_listens_nothing_is_healthy_or_alive(service, flags):
    result = ask(*flags, "--target", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "127.0.0.1:1: UNAVAILABLE" in result.output


@pytest.fixture
def authority():
    return Authority()


def tls(authority, *, client_ca=None):
    identity = authority.issue("server")
    return grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)], client_ca and client_ca.pem, require_client_auth=client_ca is not None
    )


def test_a_service_with_tls_is_asked_by_tls(service, authority, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    port = service(SERVING, tls(authority))
    assert ask("--target", f"localhost:{port}", "--tls-ca", str(ca)).exit_code == 0
    assert ask("--target", f"localhost:{port}").exit_code == 1


def test_an_authority_that_did_not_vouch_for_it_is_not_enough(service, authority, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority("another").pem)
    assert ask("--target", f"localhost:{service(SERVING, tls(authority))}", "--tls-ca", str(ca)).exit_code == 1


def test_a_service_that_asks_for_a_certificate_is_shown_one(service, authority, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    certificate, key = authority.issue("probe").write(tmp_path, "probe")
    port = service(SERVING, tls(authority, client_ca=authority))
    identity = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    assert ask("--target", f"localhost:{port}", "--tls-ca", str(ca), *identity).exit_code == 0
    assert ask("--target", f"localhost:{port}", "--tls-ca", str(ca)).exit_code == 1


def test_a_certificate_without_an_authority_is_a_wrong_call(tmp_path):
    file = tmp_path / "x.pem"
    file.touch()
    result = ask("--tls-cert", str(file), "--tls-key", str(file))
    assert result.exit_code == 2
    assert "--tls-ca" in result.output
