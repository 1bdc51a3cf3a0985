"""What each feature keeps out, and that the same attempt gets in when the feature is off."""

import re

import pytest
from certificates import DAY

from cutstream import TLSConfig
from cutstream_server.rpc.security.tokens import new_token

CLOSED = "Socket closed|Connection reset"
"""All that a caller is told when the server breaks a handshake off."""

CLIENT_CERTIFICATES = {
    "none": lambda authority, stranger: None,
    "of another authority": lambda authority, stranger: stranger.issue("client"),
    "expired": lambda authority, stranger: authority.issue("client", until=-DAY),
    "not valid yet": lambda authority, stranger: authority.issue("client", since=DAY),
}


def tls_config(authority, identity=None):
    if identity is None:
        return TLSConfig(authority.pem)
    return TLSConfig(authority.pem, identity.certificate, identity.key)


@pytest.mark.parametrize("which", CLIENT_CERTIFICATES)
async def test_a_client_without_a_good_certificate_stays_out(open_server, mutual_tls, authority, stranger, which):
    identity = CLIENT_CERTIFICATES[which](authority, stranger)
    async with open_server(**mutual_tls) as server:
        assert re.search(CLOSED, (await server.refusal(tls=tls_config(authority, identity))).message)


@pytest.mark.parametrize("which", CLIENT_CERTIFICATES)
async def test_without_mutual_tls_that_client_gets_in(open_server, tls, authority, stranger, which):
    identity = CLIENT_CERTIFICATES[which](authority, stranger)
    async with open_server(**tls) as server:
        assert (await server.info(tls=tls_config(authority, identity))).version


async def test_a_client_with_a_good_certificate_gets_in(open_server, mutual_tls, authority):
    async with open_server(**mutual_tls) as server:
        assert (await server.info(tls=tls_config(authority, authority.issue("client")))).version


async def test_a_client_that_trusts_another_authority_does_not_talk(open_server, tls, stranger):
    async with open_server(**tls) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in (await server.refusal(tls=tls_config(stranger))).message


async def test_plain_text_stays_out_of_tls(open_server, tls):
    async with open_server(**tls) as server:
        assert re.search(CLOSED, (await server.refusal()).message)


async def test_without_tls_plain_text_gets_in(open_server):
    async with open_server() as server:
        assert (await server.info()).version


TOKENS = {"none": None, "unknown": new_token(), "of another form": "password"}


@pytest.mark.parametrize("which", TOKENS)
async def test_a_wrong_token_stays_out(open_server, tokens_file, which):
    tokens_file.issue()
    async with open_server(tokens_file=tokens_file.path) as server:
        refusal = await server.refusal(token=TOKENS[which])
    assert refusal.reason == "UNAUTHENTICATED"
    assert not refusal.retryable


@pytest.mark.parametrize("which", TOKENS)
async def test_without_a_file_of_tokens_that_caller_gets_in(open_server, which):
    async with open_server() as server:
        assert (await server.info(token=TOKENS[which])).version


async def test_a_known_token_gets_in(open_server, tokens_file):
    token = tokens_file.issue()
    async with open_server(tokens_file=tokens_file.path) as server:
        assert (await server.info(token=token)).version


async def test_a_rotated_certificate_is_shown_without_a_restart(open_server, tmp_path, tls, authority, stranger):
    async with open_server(**tls) as server:
        assert (await server.info(tls=tls_config(authority))).version
        assert "CERTIFICATE_VERIFY_FAILED" in (await server.refusal(tls=tls_config(stranger))).message

        stranger.issue("server").write(tmp_path, "server")
        assert (await server.info(tls=tls_config(stranger))).version
        assert "CERTIFICATE_VERIFY_FAILED" in (await server.refusal(tls=tls_config(authority))).message


async def test_a_rotated_authority_of_clients_counts_without_a_restart(open_server, mutual_tls, authority, stranger):
    mine, theirs = (tls_config(authority, issuer.issue("client")) for issuer in (authority, stranger))
    async with open_server(**mutual_tls) as server:
        assert (await server.info(tls=mine)).version
        assert re.search(CLOSED, (await server.refusal(tls=theirs)).message)

        mutual_tls["tls_client_ca"].write_bytes(stranger.pem)
        assert (await server.info(tls=theirs)).version
        assert re.search(CLOSED, (await server.refusal(tls=mine)).message)


async def test_a_rotated_token_counts_without_a_restart(open_server, tokens_file):
    old = tokens_file.issue("old")
    async with open_server(tokens_file=tokens_file.path) as server:
        assert (await server.info(token=old)).version

        tokens_file.write("")
        new = tokens_file.issue("new")
        assert (await server.info(token=new)).version
        assert (await server.refusal(token=old)).reason == "UNAUTHENTICATED"
