"""The real service with its real Triton: what it opens to others, what it writes down, and when it does not start."""

import hashlib
import http.server
import ipaddress
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from certificates import Authority, key_pem, new_key
from listening import listening
from running import BIN, ROOT, descendants, free_port, running_server

import cutstream
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc
from cutstream_server.rpc.security.tokens import TokenEntry, new_token, token_digest

REFUSAL_SECONDS = 60
TINY = ROOT / "tests" / "model_repository" / "tiny"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def token():
    return new_token()


@pytest.fixture
def secured(tmp_path, authority, token):
    """The environment of a server with TLS and a token, and how its clients connect."""
    certificate, key = authority.issue("server").write(tmp_path, "server")
    (tmp_path / "tokens").write_text(TokenEntry("pipeline", token_digest(token)).line() + "\n")
    environment = {
        "CUTSTREAM_TLS_CERT": str(certificate),
        "CUTSTREAM_TLS_KEY": str(key),
        "CUTSTREAM_TOKENS_FILE": str(tmp_path / "tokens"),
    }
    return {"connect": {"tls": cutstream.TLSConfig(authority.pem), "token": token}, **environment}


@pytest.fixture
def square(draw):
    mask = np.zeros((256, 256))
    mask[64:192, 64:192] = 1
    return draw(mask)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what is sent by OTLP over HTTP."""

    received: bytes = b""

    def do_POST(self):
        type(self).received += self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    """Where traces go; `received` is all that came, its address is in `url`."""
    kind = type("OwnCollector", (Collector,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kind.url = f"http://127.0.0.1:{server.server_port}"
    yield kind
    server.shutdown()


def use_everything(server, token, image):
    """Calls of every kind, good and bad ones: what a server may be tempted to write down."""
    with server.client() as client:
        client.info()
        client.remove(image)
        assert len(list(client.stream([image, b"no image"]))) == 2
    for wrong in (new_token(), token[:-1], token + "A", token.upper()):
        with server.client(token=wrong) as client, pytest.raises(cutstream.CutoutError, match="UNAUTHENTICATED"):
            client.info()


def test_on_every_interface_nothing_but_the_service_is_open_to_others(tmp_path, secured, square):
    with running_server(tmp_path, host="0.0.0.0", **secured) as server:
        with server.client() as client:
            assert client.remove(square).width_px == 518
        open_to_others = {
            (str(host), port)
            for host, port in listening([server.process.pid, *descendants(server.process.pid)])
            if not ipaddress.ip_address(host).is_loopback
        }
        port = int(server.target.rpartition(":")[2])
        assert {number for _, number in open_to_others} == {port}
        assert open_to_others <= {("0.0.0.0", port), ("::", port)}


def test_a_token_is_in_no_log_line_no_trace_and_no_answer(tmp_path, secured, token, square, collector):
    verbose = {
        "CUTSTREAM_LOG_LEVEL": "debug",
        "CUTSTREAM_LOG_IMAGES": "true",
        "GRPC_VERBOSITY": "debug",
        "PYTHONASYNCIODEBUG": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    with running_server(tmp_path, **secured, **verbose) as server:
        use_everything(server, token, square)
        with grpc.secure_channel(
            server.target, grpc.ssl_channel_credentials(secured["connect"]["tls"].root_ca_pem)
        ) as channel:
            info = cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel).GetServerInfo(
                pb.GetServerInfoRequest(), metadata=(("authorization", f"Bearer {token}"),)
            )
    log = server.log.read_text()
    triton_log = re.search(r"its log is (\S+\.log)", log).group(1)
    key = (tmp_path / "server.key").read_text().splitlines()[1]
    places = {
        "log": log,
        "Triton's log": Path(triton_log).read_text(errors="replace"),
        "traces": collector.received.decode(errors="replace"),
        "server info": str(info),
    }
    assert "RemoveBackground" in places["traces"]
    assert "refused /cutstream.v1.BackgroundRemovalService/GetServerInfo" in log
    for secret in (token, token_digest(token), key, token[8:40]):
        assert [place for place, text in places.items() if secret in text] == []


def test_where_grpc_is_told_to_trace_everything_the_token_would_be_found(tmp_path, secured, token):
    # No Triton there: only the service's own calls are of interest, and the log grows by megabytes.
    environment = {
        **os.environ,
        **{name: value for name, value in secured.items() if name.isupper()},
        "CUTSTREAM_TRITON": f"127.0.0.1:{free_port()}",
        "CUTSTREAM_MODEL": "tiny",
        "GRPC_VERBOSITY": "debug",
        "GRPC_TRACE": "all",
    }
    target = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([BIN / "cutstream-server", "serve", "--listen", target], env=environment, stderr=log)
        try:
            with cutstream.Client(target, **secured["connect"]) as client:
                assert client.info(timeout_seconds=REFUSAL_SECONDS).version
        finally:
            process.terminate()
            process.wait(REFUSAL_SECONDS)
    assert token in (tmp_path / "log").read_text(errors="replace")


# What stops the start


def refused_start(folder, **environment):
    """The one line of a server that does not start."""
    result = subprocess.run(
        [BIN / "cutstream-server", "serve"],
        check=False,
        cwd=folder,
        env={**os.environ, "CUTSTREAM_MODEL_REPOSITORY": str(TINY.parent), "CUTSTREAM_MODEL": "tiny", **environment},
        capture_output=True,
        text=True,
        timeout=REFUSAL_SECONDS,
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_a_wrong_file_is_one_line_that_names_the_variable(tmp_path, authority, secured):
    (tmp_path / "server.key").write_bytes(key_pem(new_key()))
    environment = {name: value for name, value in secured.items() if name.isupper()}
    line = refused_start(tmp_path, CUTSTREAM_LISTEN=f"127.0.0.1:{free_port()}", **environment)
    assert line.startswith(f"cutstream-server: CUTSTREAM_TLS_KEY={tmp_path / 'server.key'} is not the key of")


def test_a_wrong_file_of_tokens_is_one_line_that_names_the_variable(tmp_path, token):
    (tmp_path / "tokens").write_text(f"pipeline {token}\n")
    line = refused_start(tmp_path, CUTSTREAM_TOKENS_FILE=str(tmp_path / "tokens"))
    assert line.startswith(f"cutstream-server: CUTSTREAM_TOKENS_FILE={tmp_path / 'tokens'}, line 1: ")
    assert token not in line


def test_an_open_address_without_tls_is_refused_with_tokens_too(tmp_path, secured):
    tokens = secured["CUTSTREAM_TOKENS_FILE"]
    line = refused_start(tmp_path, CUTSTREAM_LISTEN="0.0.0.0:0", CUTSTREAM_TOKENS_FILE=tokens)
    assert "CUTSTREAM_TLS_CERT" in line
    assert "CUTSTREAM_ALLOW_INSECURE=true" in line


# Models


@pytest.fixture
def built(tmp_path):
    """A repository with the tiny network as if `model build` had made it."""
    shutil.copytree(TINY, tmp_path / "models" / "tiny")
    file = tmp_path / "models" / "tiny" / "1" / "model.onnx"
    record = {"model_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    file.with_name("build.json").write_text(json.dumps(record))
    return file


def test_a_damaged_model_stops_the_start(tmp_path, built):
    built.write_bytes(built.read_bytes() + b"\0")
    line = refused_start(tmp_path, CUTSTREAM_MODEL_REPOSITORY=str(tmp_path / "models"))
    assert line.startswith(f"cutstream-server: {built} is not the file that was built")
    assert "cutstream-server model build" in line


def test_a_model_as_it_was_built_is_served(tmp_path, built, square):
    with running_server(tmp_path, str(tmp_path / "models")) as server, server.client() as client:
        assert client.remove(square).width_px == 518
    assert f"{built} has the recorded SHA-256" in server.log.read_text()
