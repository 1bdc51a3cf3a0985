"""The channel: targets, pools, health, TLS and tokens."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2

from cutstream import (
    Client,
    Cutout,
    CutoutError,
    KeepAliveConfig,
    LoadBalancingConfig,
    RetryConfig,
    TLSConfig,
)
from cutstream.connection import SERVICE, channel_options, grpc_target, is_pool
from cutstream.v1 import cutstream_pb2 as pb

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# Targets


@pytest.mark.parametrize("target", ["localhost:50051", "dns:///pool:50051", "ipv4:10.0.0.1:1,10.0.0.2:1", "unix:/s"])
def test_a_target_in_grpcs_notation_stays(target):
    assert grpc_target(target) == target


def test_a_list_becomes_addresses():
    assert grpc_target("127.0.0.1:1, localhost:2") == "ipv4:127.0.0.1:1,127.0.0.1:2"


@pytest.mark.parametrize("target", ["a:1,b", "127.0.0.1:1,127.0.0.1:x", "127.0.0.1:1,no-such-host.invalid:2"])
def test_a_list_that_cannot_be_understood_is_refused_when_the_client_is_made(target):
    with pytest.raises(ValueError, match="in target"):
        Client(target)


@pytest.mark.parametrize(
    ("target", "pool"), [("localhost:1", False), ("dns:///a:1", True), ("a:1,b:1", True), ("unix:/s", False)]
)
def test_lists_and_dns_names_are_pools(target, pool):
    assert is_pool(target) is pool


# Options of the channel


def options_of(load_balancing: LoadBalancingConfig | None = None, **keep_alive: float) -> dict[str, int | str]:
    return dict(channel_options(KeepAliveConfig(**keep_alive), load_balancing, None))


def test_keep_alive_is_set_in_milliseconds():
    options = options_of(interval_seconds=1.5, timeout_seconds=0.25, without_calls=True)
    assert options["grpc.keepalive_time_ms"] == 1500
    assert options["grpc.keepalive_timeout_ms"] == 250
    assert options["grpc.keepalive_permit_without_calls"] == 1


def test_answers_may_be_larger_than_grpcs_default_of_4_mib():
    assert options_of()["grpc.max_receive_message_length"] > 4 * 1024 * 1024


def test_a_pool_is_health_checked_by_the_name_of_the_service():
    config = json.loads(options_of(LoadBalancingConfig())["grpc.service_config"])
    assert config == {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": SERVICE}}
    assert SERVICE == "cutstream.v1.BackgroundRemovalService"


def test_a_single_server_has_no_service_config():
    assert "grpc.service_config" not in options_of(None)


# Pools


@pytest.fixture
def other(server):
    """A second server of the same kind."""
    second = type(server)()
    second.start()
    yield second
    second.shut_down()


def pool(server, other, **arguments):
    return Client(f"{server.target},{other.target}", **arguments)


def test_calls_are_spread_over_the_servers_of_a_list(server, other):
    with pool(server, other) as client:
        for _ in range(40):
            client.remove(b"x")
    assert min(server.unary_calls, other.unary_calls) >= 5


def test_a_server_that_is_not_healthy_gets_no_calls(server, other):
    other.health = NOT_SERVING
    with pool(server, other) as client:
        for _ in range(20):
            client.remove(b"x")
    assert (server.unary_calls, other.unary_calls) == (20, 0)


def test_without_health_checks_it_would_get_calls(server, other):
    other.health = NOT_SERVING
    with pool(server, other, load_balancing=LoadBalancingConfig(health_check=False)) as client:
        for _ in range(20):
            client.remove(b"x")
    assert other.unary_calls > 0


def test_a_stream_moves_to_another_server_of_the_list(server, other, fast_retry):
    results = []
    with pool(server, other, retry=fast_retry) as client:
        for result in client.stream((f"{number}", b"x") for number in range(40)):
            results.append(result)
            if len(results) == 10:
                busy = server if server.received else other
                busy.kill()
    assert sorted(int(result.image_id) for result in results) == list(range(40))
    assert all(isinstance(result, Cutout) for result in results)
    assert server.received
    assert other.received


def test_info_reaches_a_pool_whose_models_are_not_ready(server, other):
    server.health = other.health = NOT_SERVING
    server.server_info = other.server_info = pb.GetServerInfoResponse(version="9.9")
    with pool(server, other) as client:
        assert client.info().version == "9.9"


# Readiness


def test_a_serving_server_is_ready(server, client):
    client.wait_ready(5)


def test_readiness_is_waited_for(server, client):
    server.health = NOT_SERVING
    threading.Timer(0.3, lambda: setattr(server, "health", health_pb2.HealthCheckResponse.SERVING)).start()
    begun = time.monotonic()
    client.wait_ready(10)
    assert time.monotonic() - begun > 0.25


def test_a_server_that_stays_unready_is_told_from_none_at_all(server, client):
    server.health = NOT_SERVING
    with pytest.raises(CutoutError, match="MODEL_UNAVAILABLE"):
        client.wait_ready(0.3)
    server.kill()
    with pytest.raises(CutoutError, match="SERVER_UNREACHABLE"):
        client.wait_ready(0.3)


# Tokens


def test_a_token_goes_with_every_call(server):
    with Client(server.target, token="secret") as client:
        client.remove(b"x")
        list(client.stream([b"x"]))
    assert server.tokens == ["Bearer secret", "Bearer secret"]


def test_without_a_token_nothing_is_sent(server, client):
    client.remove(b"x")
    assert server.tokens == [""]


def test_a_token_from_a_function_is_asked_for_before_every_call(server):
    tokens = iter(["first", "second"])
    with Client(server.target, token=lambda: next(tokens)) as client:
        client.remove(b"x")
        client.remove(b"x")
    assert server.tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    "target",
    ["example.org:1", "10.0.0.1:1", "dns:///example.org:1", "127.0.0.1:1,10.0.0.1:1", "localhost.example.org:1"],
)
def test_a_token_is_refused_in_plain_text(target):
    with pytest.raises(ValueError, match="needs TLS"):
        Client(target, token="secret")


@pytest.mark.parametrize("target", ["localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "unix:/socket"])
def test_a_token_may_stay_on_this_machine_in_plain_text(target):
    Client(target, token="secret").close()


def test_a_token_may_travel_encrypted():
    Client("example.org:1", token="secret", tls=TLSConfig()).close()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority with a server's and a client's certificate, and another authority that knows neither."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make certificates")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for authority in ("ca", "stranger"):
        openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{authority}.key",
            "-out",
            f"{authority}.pem",
            "-subj",
            "/CN=a",
            "-days",
            "2",
        )
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "extensions").write_text("subjectAltName=DNS:cutstream.test")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "extensions",
        )  # fmt: skip
    return folder


@pytest.fixture
def secure(server, certificates):
    """Restarts the server with TLS; asks for client certificates when told to."""

    def restart(ask_for_client: bool) -> None:
        server.kill()
        pair = ((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())
        authority = (certificates / "ca.pem").read_bytes()
        server.credentials = grpc.ssl_server_credentials([pair], authority if ask_for_client else None, ask_for_client)
        server.start()

    return restart


ONE_TRY = RetryConfig(unreachable_seconds=0.5)


def test_tls_with_the_right_authority_works(server, secure, certificates):
    secure(ask_for_client=False)
    tls = TLSConfig.from_files(certificates / "ca.pem", server_name="cutstream.test")
    with Client(server.target, tls=tls, token="secret", retry=ONE_TRY) as client:
        assert client.remove(b"abc").data == b"cba"
    assert server.tokens == ["Bearer secret"]


def test_tls_with_another_authority_is_refused(server, secure, certificates):
    secure(ask_for_client=False)
    tls = TLSConfig.from_files(certificates / "stranger.pem", server_name="cutstream.test")
    with (
        Client(server.target, tls=tls, retry=ONE_TRY) as client,
        pytest.raises(CutoutError, match="CERTIFICATE_VERIFY"),
    ):
        client.remove(b"abc")


def test_a_server_of_another_name_is_refused(server, secure, certificates):
    secure(ask_for_client=False)
    tls = TLSConfig.from_files(certificates / "ca.pem", server_name="other.test")
    with Client(server.target, tls=tls, retry=ONE_TRY) as client, pytest.raises(CutoutError, match="UNREACHABLE"):
        client.remove(b"abc")


def test_the_servers_of_a_name_show_the_certificate_of_that_name(server, secure, certificates, monkeypatch):
    secure(ask_for_client=False)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    tls = TLSConfig.from_files(certificates / "ca.pem")
    for name, outcome in (("cutstream.test", Cutout), ("other.test", CutoutError)):
        with Client(f"dns:///{name}:{server.port}", tls=tls, retry=ONE_TRY) as client:
            assert [type(result) for result in client.stream([b"abc"])] == [outcome]


def test_plain_text_to_a_tls_server_is_refused(server, secure):
    secure(ask_for_client=False)
    with Client(server.target, retry=RetryConfig(max_attempts=1, unreachable_seconds=0.5)) as client:
        with pytest.raises(CutoutError) as caught:
            client.remove(b"abc")
        assert caught.value.retryable
    assert server.unary_calls == 0


def test_a_client_certificate_opens_a_server_that_asks_for_one(server, secure, certificates):
    secure(ask_for_client=True)
    tls = TLSConfig.from_files(
        certificates / "ca.pem", certificates / "client.pem", certificates / "client.key", "cutstream.test"
    )
    with Client(server.target, tls=tls, retry=ONE_TRY) as client:
        assert client.remove(b"abc").data == b"cba"


def test_without_a_client_certificate_that_server_stays_closed(server, secure, certificates):
    secure(ask_for_client=True)
    tls = TLSConfig.from_files(certificates / "ca.pem", server_name="cutstream.test")
    one_try = RetryConfig(max_attempts=1, unreachable_seconds=0.5)
    with Client(server.target, tls=tls, retry=one_try) as client, pytest.raises(CutoutError):
        client.remove(b"abc")
    assert server.unary_calls == 0
