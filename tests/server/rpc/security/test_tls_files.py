"""Certificates and keys that cannot work stop the start with one line; later they leave what was there."""

import re
import socket
import ssl
import threading

import pytest
from certificates import DAY, key_pem, new_key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cutstream import TLSConfig
from cutstream_server.rpc.security.tls import TLSFiles
from cutstream_server.rpc.security.watched import SecurityFileError
from cutstream_server.rpc.server import StartError

CERT, KEY, CA = "CUTSTREAM_TLS_CERT", "CUTSTREAM_TLS_KEY", "CUTSTREAM_TLS_CLIENT_CA"


@pytest.fixture
def files(tmp_path, authority):
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    return TLSFiles(*authority.issue("server").write(tmp_path, "server"), tmp_path / "clients.pem")


def test_good_files_are_taken(files):
    files.load()


def test_a_chain_with_its_intermediate_is_taken(files, stranger):
    files.certificate.write_bytes(files.certificate.read_bytes() + stranger.pem)
    files.load()


BROKEN = {
    "the key of another certificate": (lambda f, a: f.key.write_bytes(key_pem(new_key())), KEY, "is not the key of"),
    "an encrypted key": (lambda f, a: f.key.write_bytes(key_pem(new_key(), b"phrase")), KEY, "is encrypted"),
    "no key": (lambda f, a: f.key.write_bytes(b"rubbish"), KEY, "holds no private key"),
    "half a key": (lambda f, a: f.key.write_bytes(f.key.read_bytes()[:100]), KEY, "holds no private key"),
    "the certificate for the key": (lambda f, a: f.key.write_bytes(a.pem), KEY, "holds no private key"),
    "a missing key": (lambda f, a: f.key.unlink(), KEY, "No such file"),
    "no certificate": (lambda f, a: f.certificate.write_bytes(b""), CERT, "holds no certificate"),
    "half a certificate": (
        lambda f, a: f.certificate.write_bytes(f.certificate.read_bytes()[:200]),
        CERT,
        "holds no certificate",
    ),
    "a missing certificate": (lambda f, a: f.certificate.unlink(), CERT, "No such file"),
    "an expired certificate": (lambda f, a: a.issue(until=-DAY).write(f.key.parent, "server"), CERT, "has expired on"),
    "a certificate of tomorrow": (
        lambda f, a: a.issue(since=DAY).write(f.key.parent, "server"),
        CERT,
        "is not valid before",
    ),
    "no authority": (lambda f, a: f.client_ca.write_bytes(b"rubbish"), CA, "holds no certificate"),
    "a missing authority": (lambda f, a: f.client_ca.unlink(), CA, "No such file"),
}


@pytest.mark.parametrize("which", BROKEN)
def test_what_cannot_work_is_one_line_with_variable_and_file(files, authority, which):
    damage, variable, message = BROKEN[which]
    damage(files, authority)
    with pytest.raises(SecurityFileError) as caught:
        files.load()
    assert re.match(rf"{variable}={files.key.parent}/.*{message}", str(caught.value))
    assert "\n" not in str(caught.value)


KEYS = {
    "P-256": (lambda: ec.generate_private_key(ec.SECP256R1()), True),
    "P-384": (lambda: ec.generate_private_key(ec.SECP384R1()), True),
    "RSA 2048": (lambda: rsa.generate_private_key(65537, 2048), True),
    "P-521": (lambda: ec.generate_private_key(ec.SECP521R1()), False),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate, False),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_a_kind_of_key_is_taken_exactly_when_a_handshake_with_it_succeeds(
    open_server, tmp_path, authority, kind, monkeypatch
):
    make, works = KEYS[kind]
    certificate, key = authority.issue("server", key=make()).write(tmp_path, "server")
    if not works:
        with pytest.raises(SecurityFileError, match="use RSA, P-256 or P-384"):
            TLSFiles(certificate, key, None).load()
        monkeypatch.setattr(TLSFiles, "_check_key", lambda *_: None)
    async with open_server(tls_cert=certificate, tls_key=key) as server:
        if works:
            assert (await server.info(tls=TLSConfig(authority.pem))).version
        else:
            assert (await server.refusal(tls=TLSConfig(authority.pem))).reason == "SERVER_UNREACHABLE"


async def test_a_broken_file_stops_the_start(open_server, tls):
    tls["tls_key"].write_bytes(b"rubbish")
    with pytest.raises(StartError, match=KEY):
        async with open_server(**tls):
            pass


async def test_a_pair_of_which_half_is_written_leaves_the_old_one(open_server, tls, authority, stranger, caplog):
    async with open_server(**tls) as server:
        new = stranger.issue("server")
        tls["tls_cert"].write_bytes(new.certificate)
        assert (await server.info(tls=TLSConfig(authority.pem))).version
        assert f"{KEY}={tls['tls_key']} is not the key of the first certificate" in caplog.text

        tls["tls_key"].write_bytes(new.key)
        assert (await server.info(tls=TLSConfig(stranger.pem))).version


def tls_version(address, newest):
    """The version that a handshake with OpenSSL agrees on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Else this side would refuse TLS 1.1 before the server has a chance to.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as connection, context.wrap_socket(connection) as secure:
        return secure.version()


@pytest.mark.parametrize(
    ("newest", "spoken"), [(ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")]
)
async def test_tls_1_3_and_1_2_are_spoken(open_server, tls, newest, spoken):
    async with open_server(**tls) as server:
        assert tls_version(server.target, newest) == spoken


OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("newest", OLD)
async def test_older_tls_is_refused(open_server, tls, newest):
    async with open_server(**tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            tls_version(server.target, newest)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("newest", "spoken"), list(zip(OLD, ["TLSv1", "TLSv1.1"], strict=True)))
def test_a_server_that_speaks_older_tls_would_be_found_out(tls, newest, spoken):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["tls_cert"], tls["tls_key"])
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=lambda: context.wrap_socket(server.accept()[0], server_side=True).close())
        answer.start()
        assert tls_version(f"127.0.0.1:{server.getsockname()[1]}", newest) == spoken
        answer.join()
