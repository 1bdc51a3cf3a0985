"""The real gRPC server of the service in this process, as its settings open or close it; no Triton behind it."""

import contextlib
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from certificates import Authority

import cutstream
from cutstream_server.errors import ModelUnavailableError
from cutstream_server.rpc.security.tokens import TokenEntry, new_token, token_digest
from cutstream_server.rpc.server import Server
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.settings import Settings
from cutstream_server.telemetry.images import OFF

CATALOG = ModelCatalog({"isnet": ModelRules()})


class NoTriton(ModelServer):
    """Says that it is ready, for images that bring their own alpha."""

    embedded = True

    async def start(self):
        self._change(ServerState.READY)

    async def stop(self):
        self._change(ServerState.STOPPED)

    def url(self):
        raise ModelUnavailableError("there is none")

    def report_answer(self, url, model):
        raise AssertionError("nobody asked")

    report_failure = report_answer


@dataclass
class Opened:
    """A running server and how its callers connect to it by default."""

    target: str
    connect: dict = field(default_factory=dict)

    async def info(self, *, unreachable_seconds=5, **connect):
        """What `cutstream info` asks; CutoutError when it is not let in."""
        retry = cutstream.RetryConfig(max_attempts=1, unreachable_seconds=unreachable_seconds)
        async with cutstream.AsyncClient(self.target, retry=retry, **{**self.connect, **connect}) as client:
            return await client.info(timeout_seconds=10)

    async def refusal(self, **connect):
        """The error of a caller who is not let in. Handshakes that fail are tried again: a while of that is enough."""
        with pytest.raises(cutstream.CutoutError) as caught:
            await self.info(unreachable_seconds=0.3, **connect)
        return caught.value


@pytest.fixture
def open_server():
    """Starts a server with these settings for the time of a block."""

    @contextlib.asynccontextmanager
    async def start(connect=None, **settings):
        server = Server(Settings(listen="127.0.0.1:0", drain_seconds=0, **settings), NoTriton(), CATALOG, OFF)
        try:
            await server.start()
            yield Opened(server.address, connect or {})
        finally:
            await server.stop()

    return start


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture(scope="session")
def stranger():
    """An authority that nobody has heard of."""
    return Authority("stranger")


@pytest.fixture
def tls(tmp_path, authority):
    """The settings that turn TLS on, with a certificate for this machine."""
    certificate, key = authority.issue("server").write(tmp_path, "server")
    return {"tls_cert": certificate, "tls_key": key}


@pytest.fixture
def mutual_tls(tmp_path, tls, authority):
    """The same, asking clients for a certificate of the same authority."""
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    return {**tls, "tls_client_ca": tmp_path / "clients.pem"}


class TokensFile:
    """A file of tokens; `path` is for the settings."""

    def __init__(self, path):
        self.path = path
        self.write("")

    def write(self, text):
        """Replaces the whole file at once."""
        part = self.path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text("# tokens\n" + text)
        part.replace(self.path)

    def issue(self, name="somebody", **limits):
        """Adds a token and gives it."""
        token = new_token()
        self.write(self.path.read_text() + TokenEntry(name, token_digest(token), **limits).line() + "\n")
        return token


@pytest.fixture
def tokens_file(tmp_path):
    return TokensFile(tmp_path / "tokens")


@pytest.fixture(scope="session")
def cut_out():
    """An image that needs no model, for it is transparent around its square; PNG bytes."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = 255
    return cv2.imencode(".png", pixels)[1].tobytes()
