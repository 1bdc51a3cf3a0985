"""Which addresses are listened on in which way, and what a wrong setting may show."""

import pytest

from cutstream_server.settings import SettingsError, load_settings

LISTEN, INSECURE = "CUTSTREAM_LISTEN", "CUTSTREAM_ALLOW_INSECURE"
CERT, KEY, CA, TOKENS = "CUTSTREAM_TLS_CERT", "CUTSTREAM_TLS_KEY", "CUTSTREAM_TLS_CLIENT_CA", "CUTSTREAM_TOKENS_FILE"
TLS = {CERT: "cert.pem", KEY: "key.pem"}


@pytest.fixture
def load(monkeypatch):
    def with_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return with_variables


OPEN = ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "cutstream.internal:50051", "localhost.evil.example:1"]
LOOPBACK = ["127.0.0.1:50051", "localhost:50051", "[::1]:50051"]


@pytest.mark.parametrize("address", OPEN)
@pytest.mark.parametrize("more", [{}, {TOKENS: "tokens"}])
def test_an_open_address_without_tls_is_refused(load, address, more):
    with pytest.raises(SettingsError, match=INSECURE) as caught:
        load({LISTEN: address, **more})
    assert CERT in str(caught.value)


@pytest.mark.parametrize("address", OPEN)
@pytest.mark.parametrize("way", [TLS, {INSECURE: "true"}])
def test_with_tls_or_when_told_so_it_is_listened_on(load, address, way):
    assert load({LISTEN: address, **way}).listen == address


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_needs_nothing(load, address):
    assert load({LISTEN: address}).listen == address


@pytest.mark.parametrize("variables", [{CERT: "c"}, {KEY: "k"}, {CA: "a"}, {CA: "a", CERT: "c"}])
def test_half_of_tls_is_refused(load, variables):
    with pytest.raises(SettingsError, match="CUTSTREAM_TLS"):
        load(variables)


SECRETS = {
    "a key": "-----BEGIN PRIVATE KEY----- MIGHAgEAMBMGByqGSM49",
    "a token": "cst_" + "A" * 43,
    "several lines": "line one\nline two",
}


@pytest.mark.parametrize("variable", [CERT, KEY, CA, TOKENS])
@pytest.mark.parametrize("which", SECRETS)
def test_a_secret_in_the_place_of_its_file_is_refused_and_not_shown(load, variable, which):
    with pytest.raises(SettingsError, match=f"{variable}: .*name the file here") as caught:
        load({**TLS, variable: SECRETS[which]})
    assert SECRETS[which] not in str(caught.value)
    assert "\n" not in str(caught.value)
