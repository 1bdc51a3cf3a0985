import asyncio

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.embedded.process import start_triton
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.segmentation.triton import TritonClient

SECONDS = 20.0
NOBODY = "127.0.0.1:1"


class Addresses(ModelServer):
    """A model server whose address the test sets; it remembers what it is told."""

    embedded = False

    def __init__(self, url):
        super().__init__()
        self.address = url
        self.answers = []
        self.failures = []
        self.headers = {}
        self._change(ServerState.READY)

    async def start(self):
        pass

    async def stop(self):
        self._change(ServerState.STOPPED)

    def url(self):
        if not self.ready:
            raise ModelUnavailableError("stopped")
        return self.address

    def control_headers(self):
        return self.headers

    def report_answer(self, url, model):
        self.answers.append((url, model))

    def report_failure(self, url, error):
        self.failures.append((url, error))


@pytest.fixture
def server(triton):
    return Addresses(triton.url)


@pytest.fixture
async def client(server):
    client = TritonClient(server)
    yield client
    await client.close()


async def test_an_answer_is_reported_with_its_address_and_model(client, server, triton, picture):
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert server.answers == [(triton.url, "tiny")]
    assert server.failures == []


async def test_a_call_into_the_void_is_reported_with_its_address(client, server, picture):
    server.address = NOBODY
    with pytest.raises(ModelUnavailableError) as caught:
        await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert {url for url, _ in server.failures} == {NOBODY}
    assert server.failures[-1][1] is caught.value


async def test_the_next_call_goes_to_the_new_address(client, server, triton, picture):
    server.address = NOBODY
    with pytest.raises(ModelUnavailableError):
        await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    server.address = triton.url
    assert (await client.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"


async def test_an_address_that_comes_back_is_used_again(client, server, launch, picture, monkeypatch):
    process = await start_triton(launch)
    server.address = process.url
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    await process.stop(grace=0)
    with pytest.raises(ModelUnavailableError):
        await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    monkeypatch.setattr("cutstream_server.segmentation.embedded.process._free_ports", lambda: process.ports)
    process = await start_triton(launch)
    assert (await client.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"
    await process.stop(grace=0)


async def test_without_a_ready_triton_a_call_fails_at_once(client, server, picture):
    await server.stop()
    with pytest.raises(ModelUnavailableError):
        await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert await client.ready_models() == {}


async def test_the_ready_models_are_tritons(client, server, triton):
    server.headers = triton.control_headers
    assert (await client.ready_models())["tiny"] == "1"


async def test_calls_under_way_on_a_failed_connection_can_end(server, triton, picture):
    client = TritonClient(server)
    calls = [asyncio.create_task(client.infer("tiny", picture(512, 512), timeout=SECONDS)) for _ in range(4)]
    await asyncio.sleep(0)
    client._retire(triton.url)
    assert [answer.version for answer in await asyncio.gather(*calls)] == ["1"] * 4
    await client.close()


async def test_memory_that_triton_has_forgotten_is_shared_again_after_a_while(
    client, server, triton, picture, monkeypatch
):
    monkeypatch.setattr("cutstream_server.segmentation.triton._PROBE_AGAIN_SECONDS", 0.0)
    server.headers = triton.control_headers
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert await client.transport("tiny") == "shared_memory"
    async with grpc.aio.insecure_channel(triton.url) as channel:
        forget = service_pb2_grpc.GRPCInferenceServiceStub(channel).SystemSharedMemoryUnregister
        await forget(service_pb2.SystemSharedMemoryUnregisterRequest(), metadata=tuple(server.headers.items()))
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert await client.transport("tiny") == "shared_memory"


async def test_without_tritons_key_images_take_the_wire(client, picture):
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    assert await client.transport("tiny") == "grpc"


async def test_a_close_leaves_no_task_behind(server, picture):
    client = TritonClient(server)
    await client.infer("tiny", picture(64, 64), timeout=SECONDS)
    await client.close()
    assert len(asyncio.all_tasks()) == 1
