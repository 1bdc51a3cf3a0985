"""What others on this machine or in this pod can have the embedded Triton do: nothing but answer."""

import ipaddress
import json
from pathlib import Path

import grpc
import pytest
from listening import listening
from tritonclient.grpc import service_pb2, service_pb2_grpc

CONFIGURATION = json.dumps(
    {
        "backend": "python",
        "input": [{"name": "i", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "o", "data_type": "TYPE_FP32", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU"}],
    }
)
PROGRAM = """
from pathlib import Path
Path({mark!r}).write_text("I ran")
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
REFUSED = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def stub(triton):
    async with grpc.aio.insecure_channel(triton.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def region():
    """Shared memory of another program of this user."""
    file = Path("/dev/shm/cutstream_test_region")
    file.write_bytes(b"x" * 64)
    yield file
    file.unlink()


def foreign_program(mark):
    """The request that loads a model with its program from the request itself."""
    request = service_pb2.RepositoryModelLoadRequest(model_name="foreign")
    request.parameters["config"].string_param = CONFIGURATION
    request.parameters["file:1/model.py"].bytes_param = PROGRAM.format(mark=str(mark)).encode()
    return request


async def test_a_stranger_cannot_have_it_run_a_program(stub, tmp_path):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RepositoryModelLoad(foreign_program(tmp_path / "mark"))
    assert caught.value.code() is REFUSED
    assert not (tmp_path / "mark").exists()


async def test_with_the_runs_key_it_would_run(stub, triton, tmp_path):
    key = tuple(triton.control_headers.items())
    await stub.RepositoryModelLoad(foreign_program(tmp_path / "mark"), metadata=key)
    await stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="foreign"), metadata=key)
    assert (tmp_path / "mark").read_text() == "I ran"


async def test_a_stranger_cannot_unload_a_model(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="tiny"))
    assert caught.value.code() is REFUSED


def registration(region):
    return service_pb2.SystemSharedMemoryRegisterRequest(name="mine", key=f"/{region.name}", byte_size=64)


async def test_a_stranger_cannot_name_shared_memory(stub, region):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SystemSharedMemoryRegister(registration(region))
    assert caught.value.code() is REFUSED


async def test_with_the_runs_key_shared_memory_could_be_named(stub, triton, region):
    key = tuple(triton.control_headers.items())
    await stub.SystemSharedMemoryRegister(registration(region), metadata=key)
    await stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(name="mine"), metadata=key)


async def test_another_key_opens_nothing(stub, triton):
    wrong = tuple((name, value[:-1] + "~") for name, value in triton.control_headers.items())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=wrong)
    assert caught.value.code() is REFUSED


def test_it_listens_at_two_ports_of_loopback_and_nowhere_else(triton):
    loopback = ipaddress.ip_address("127.0.0.1")
    ports = {(loopback, port) for port in (triton.ports.grpc, triton.ports.metrics)}
    assert listening(triton.run.processes()) == ports
