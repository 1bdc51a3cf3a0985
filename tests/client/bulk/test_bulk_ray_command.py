"""`cutstream bulk --engine ray` before there is a cluster: what it refuses, and what it says then."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from cutstream.bulk import local_server
from cutstream.bulk.local_server import LocalServer
from cutstream.cli import app


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTSTREAM_TARGET", server.target)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")

    def invoke(*arguments):
        result = CliRunner().invoke(app, ["bulk", "photos", "out", *arguments], env={"COLUMNS": "300"})
        return result.exit_code, result.stderr

    return invoke


@pytest.mark.parametrize("flag", [["--address", "head:6379"], ["--workers", "2"], ["--serve-local"]])
def test_flags_of_a_cluster_need_its_engine(run, flag):
    code, said = run(*flag)
    assert code == 2
    assert "belong to --engine ray" in said


def test_a_server_of_the_nodes_own_takes_no_token(run, tmp_path):
    (tmp_path / "token").write_text("secret")
    code, said = run("--engine", "ray", "--serve-local", "--token-file", "token")
    assert code == 2
    assert "neither TLS nor tokens" in said


def test_a_target_and_servers_of_the_nodes_own_are_not_asked_for_together(run, server):
    code, said = run("--engine", "ray", "--serve-local", "--target", server.target)
    assert code == 2
    assert "leave --target out" in said


def test_without_ray_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    code, said = run("--engine", "ray")
    assert code == 2
    assert "pip install 'ray[data]'" in said


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:1", "Connection refused"), ("ray://127.0.0.1:10001", "HOST:PORT is wanted"), ("head", "HOST:PORT")],
)
def test_an_address_where_there_is_no_cluster_is_named_at_once(run, tmp_path, address, reason):
    code, said = run("--engine", "ray", "--address", address)
    assert code == 2
    assert f"no Ray cluster at {address}" in said
    assert reason in said
    assert not (tmp_path / "out").exists()


def test_a_node_without_the_server_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(local_server, "PROGRAM", "no-such-program")
    with pytest.raises(FileNotFoundError, match=r"pip install \./server"):
        LocalServer({})
