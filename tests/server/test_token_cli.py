"""`cutstream-server token new`: the token is shown once, its hash is kept."""

import hashlib
import stat
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from cutstream_server.cli import app
from cutstream_server.rpc.security.tokens import TokenEntry, read_tokens


def run(*arguments):
    return CliRunner().invoke(app, ["token", "new", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens"


def test_standard_output_is_the_token_alone(file):
    result = run("--name", "ci", "--file", file)
    assert result.exit_code == 0
    (token,) = result.stdout.splitlines()
    assert read_tokens(file) == (TokenEntry("ci", hashlib.sha256(token.encode()).hexdigest()),)
    assert token not in file.read_text()


def test_a_new_file_is_its_owners_alone(file):
    run("--name", "ci", "--file", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_a_file_the_line_to_add_is_shown(file):
    result = run("--name", "ci")
    line = next(line for line in result.stderr.splitlines() if line.startswith("ci "))
    file.write_text(line)
    assert [entry.name for entry in read_tokens(file)] == ["ci"]


@pytest.mark.parametrize("there", ["", "# ours\n", "# no line end"])
def test_a_token_is_added_to_what_is_there(file, there):
    file.write_text(there)
    assert run("--name", "a", "--file", file).exit_code == 0
    assert run("--name", "b", "--file", file).exit_code == 0
    assert file.read_text().startswith(there)
    assert [entry.name for entry in read_tokens(file)] == ["a", "b"]


def test_expiry_and_methods_are_kept(file):
    run("--name", "probe", "--file", file, "--expires-days", 30, "--methods", "GetServerInfo")
    (entry,) = read_tokens(file)
    assert entry.methods == ("GetServerInfo",)
    assert abs(entry.expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)


WRONG = [
    (["--name", "two words"], "letters, digits, dots"),
    (["--name", ""], "letters, digits, dots"),
    (["--name", "ci", "--methods", "Everything"], "methods must be of"),
    (["--name", "ci", "--expires-days", "0"], "--expires-days"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments_are_told_and_make_no_file(file, monkeypatch, arguments, message):
    monkeypatch.setenv("COLUMNS", "200")
    result = run(*arguments, "--file", file)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stdout == ""
    assert not file.exists()


def test_a_name_that_is_taken_is_refused(file):
    run("--name", "ci", "--file", file)
    before = file.read_text()
    result = run("--name", "ci", "--file", file)
    assert result.exit_code == 1
    assert "'ci'" in result.stderr
    assert file.read_text() == before


def test_a_file_that_the_service_would_refuse_is_left_as_it_is(file):
    file.write_text("rubbish\n")
    result = run("--name", "ci", "--file", file)
    assert result.exit_code == 1
    assert "line 1" in result.stderr
    assert file.read_text() == "rubbish\n"
