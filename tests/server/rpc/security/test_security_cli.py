"""What a person at the command line is told when the server does not let them in."""

import asyncio

import pytest
from typer.testing import CliRunner

from cutstream import TLSConfig
from cutstream.cli import app
from cutstream.cli_output import print_error
from cutstream_server.rpc.security.tokens import new_token


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs a command, in a thread since the server is in this one."""
    monkeypatch.setenv("COLUMNS", "300")

    async def run(server, *arguments):
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--target", server.target])

    return run


@pytest.fixture
def token_file(tmp_path):
    def write(token):
        (tmp_path / "token").write_text(token + "\n")
        return str(tmp_path / "token")

    return write


async def test_a_token_opens_the_command_line(open_server, tokens_file, token_file, cli):
    async with open_server(tokens_file=tokens_file.path) as server:
        result = await cli(server, "info", "--token-file", token_file(tokens_file.issue()))
    assert result.exit_code == 0


async def test_without_a_token_the_flag_is_named(open_server, tokens_file, cli):
    async with open_server(tokens_file=tokens_file.path) as server:
        result = await cli(server, "info")
    assert result.exit_code == 1
    assert "UNAUTHENTICATED: this server asks for a token" in result.stderr
    assert "--token-file" in result.stderr


async def test_a_wrong_token_is_told_and_not_shown(open_server, tokens_file, token_file, cli):
    token = new_token()
    async with open_server(tokens_file=tokens_file.path) as server:
        result = await cli(server, "info", "--token-file", token_file(token))
    assert result.exit_code == 1
    assert "UNAUTHENTICATED: this server does not know the token" in result.stderr
    assert token not in result.output


async def test_a_token_without_the_right_is_told_what_it_is_for(
    open_server, tokens_file, token_file, cli, tmp_path, cut_out
):
    (tmp_path / "chair.png").write_bytes(cut_out)
    token = tokens_file.issue("probe", methods=("GetServerInfo",))
    async with open_server(tokens_file=tokens_file.path) as server:
        result = await cli(server, "remove", str(tmp_path / "chair.png"), "--token-file", token_file(token))
    assert result.exit_code == 1
    assert "PERMISSION_DENIED: the token 'probe' is for GetServerInfo only" in result.stderr
    assert "operator" in result.stderr


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "schlüssel"])
async def test_a_file_that_holds_no_token_is_wrong_usage(open_server, token_file, cli, content):
    async with open_server() as server:
        result = await cli(server, "info", "--token-file", token_file(content))
    assert result.exit_code == 2
    assert "the token is empty or has" in result.stderr


# Failed handshakes


@pytest.fixture
def hint(capsys, monkeypatch):
    """What the command line prints of a refusal."""
    monkeypatch.setenv("COLUMNS", "300")

    def printed(refusal):
        print_error(refusal)
        return capsys.readouterr().err

    return printed


HANDSHAKES = {
    "an authority that does not vouch for the server": (
        lambda a, s: TLSConfig(s.pem),
        "does not vouch for this server",
    ),
    "an authority that is none": (lambda a, s: TLSConfig(b"rubbish"), "--tls-ca, --tls-cert, --tls-key must be PEM"),
    "the key of another certificate": (
        lambda a, s: TLSConfig(a.pem, a.issue().certificate, a.issue().key),
        "and the key fit",
    ),
    "plain text": (lambda a, s: None, "the server may ask for TLS (--tls, --tls-ca)"),
}


@pytest.mark.parametrize("which", HANDSHAKES)
async def test_a_failed_handshake_is_told_with_what_to_set(open_server, tls, authority, stranger, hint, which):
    config, expected = HANDSHAKES[which]
    async with open_server(**tls) as server:
        assert expected in hint(await server.refusal(tls=config(authority, stranger)))


async def test_a_missing_client_certificate_is_told_with_what_to_set(open_server, mutual_tls, authority, hint):
    async with open_server(**mutual_tls) as server:
        assert "--tls-cert, --tls-key" in hint(await server.refusal(tls=TLSConfig(authority.pem)))


async def test_tls_to_a_server_without_it_is_told(open_server, authority, hint):
    async with open_server() as server:
        assert "this server talks plain text" in hint(await server.refusal(tls=TLSConfig(authority.pem)))
