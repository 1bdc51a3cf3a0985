"""Configuration objects refuse what cannot work."""

from __future__ import annotations

import dataclasses

import pytest

from cutstream import KeepAliveConfig, LoadBalancingConfig, RetryConfig, TLSConfig

CONFIGS = [TLSConfig, KeepAliveConfig, RetryConfig, LoadBalancingConfig]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_is_frozen_and_has_a_default_for_everything(kind):
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(kind)[0].name, None)


@pytest.mark.parametrize("given", [{"client_cert_pem": b"c"}, {"client_key_pem": b"k"}])
def test_a_certificate_without_its_key_is_refused(given):
    with pytest.raises(ValueError, match="both"):
        TLSConfig(**given)


def test_the_private_key_is_not_shown():
    assert "secret" not in repr(TLSConfig(client_cert_pem=b"c", client_key_pem=b"secret"))


def test_tls_comes_from_files(tmp_path):
    (tmp_path / "ca").write_bytes(b"authority")
    assert TLSConfig.from_files(tmp_path / "ca", server_name="n") == TLSConfig(b"authority", server_name="n")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial_backoff_seconds": 0},
        {"initial_backoff_seconds": 2, "max_backoff_seconds": 1},
        {"backoff_multiplier": 0.5},
        {"unreachable_seconds": -1},
    ],
)
def test_retry_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        RetryConfig(**wrong)


def test_default_pings_are_rarer_than_a_default_server_allows():
    # gRPC core: grpc.http2.min_recv_ping_interval_without_data_ms is 300000.
    assert KeepAliveConfig().interval_seconds > 300
    assert not KeepAliveConfig().without_calls
