"""Tokens that cannot be sent are refused and never shown; a file of one is read again for each call."""

import os
import threading

import pytest

from cutstream import Client
from cutstream.cli_connection import connect

UNSENDABLE = ["", "two words", "line\nend", "tab\t", "schlüssel", "\x00"]


@pytest.mark.parametrize("token", UNSENDABLE)
def test_a_token_that_cannot_be_sent_is_refused_when_the_client_is_made(token):
    with pytest.raises(ValueError, match="the token is empty or has") as caught:
        Client("localhost:1", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("token", UNSENDABLE)
def test_a_function_that_returns_such_a_token_fails_the_call(server, token):
    with Client(server.target, token=lambda: token) as client:
        with pytest.raises(ValueError, match="the token is empty or has"):
            client.remove(b"x")
        with pytest.raises(ValueError, match="the token is empty or has"):
            list(client.stream([b"x"]))
    assert server.tokens == []


def connected(server, token_file):
    return connect(server.target, False, None, None, None, token_file)


def test_the_command_line_reads_its_token_file_anew_for_each_call(server, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    with connected(server, file) as client:
        client.remove(b"x")
        file.write_text("second\n")
        client.remove(b"x")
    assert server.tokens == ["Bearer first", "Bearer second"]


def test_the_command_line_reads_a_pipe_once(server, tmp_path):
    # As `--token-file <(vault read token)` gives.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=("piped\n",)).start()
    with connected(server, pipe) as client:
        client.remove(b"x")
        client.remove(b"x")
    assert server.tokens == ["Bearer piped", "Bearer piped"]
