"""What becomes of a call for each way in which a Triton fails; the texts and codes are those of the real one."""

import asyncio
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.errors import DeadlineError, InternalFaultError, ModelUnavailableError
from cutstream_server.segmentation import model_server, triton
from cutstream_server.segmentation.model_server import ModelServer, ServerState
from cutstream_server.segmentation.triton import TritonClient

SECONDS = 20.0
IMAGE = np.zeros((1, 3, 64, 64), np.uint8)

GONE = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
LOST_BACKEND = (grpc.StatusCode.INTERNAL, "Stub process 'tiny_0_0' is not healthy.")
QUEUE_FULL = (grpc.StatusCode.UNAVAILABLE, "[request id: <id_unknown>] Exceeds maximum queue size")
MODEL_MISSING = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tiny' is not found")
MODEL_NOT_READY = (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'tiny' has no available versions")
OUT_OF_MEMORY = [
    (grpc.StatusCode.INTERNAL, "onnx runtime error 6: ... Failed to allocate memory for requested buffer of size 8"),
    (grpc.StatusCode.INTERNAL, "CUDA error: out of memory"),
    (grpc.StatusCode.INVALID_ARGUMENT, "the network does not run on image [1, 3, 64, 64] uint8: std::bad_alloc"),
    (grpc.StatusCode.INTERNAL, "Failed to increase the shared memory pool size for key 'triton_python_backend'"),
]
HANG, ANSWER = "hang", "answer"


class FailingTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Does with each call what stands next in `script`; the last entry is for all that follow."""

    def __init__(self):
        self.script = [ANSWER]
        self.calls = 0

    async def ModelInfer(self, request, context):  # noqa: N802 - Triton's name
        self.calls += 1
        act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if act == HANG:
            await asyncio.sleep(1000)
        if act == ANSWER:
            return answer()
        if isinstance(act, service_pb2.ModelInferResponse):
            return act
        await context.abort(*act)
        return None


def answer(shape=(1, 1, 64, 64), datatype="FP32"):
    response = service_pb2.ModelInferResponse(model_name="tiny", model_version="1")
    response.outputs.add(name="alpha", datatype=datatype, shape=shape)
    response.raw_output_contents.append(np.zeros(shape, np.float32).tobytes())
    return response


class OneAddress(ModelServer):
    """Keeps one address for ever, and remembers what it is told."""

    embedded = False

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.failures = []
        self._change(ServerState.READY)

    async def start(self):
        pass

    async def stop(self):
        self._change(ServerState.STOPPED)

    def url(self):
        return self.address

    def report_answer(self, url, model):
        pass

    def report_failure(self, url, error):
        self.failures.append(error)

    def change(self, state):
        self._change(state)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(triton, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(triton, "_LONGEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def failing():
    servicer, server = FailingTriton(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(None)


@pytest.fixture
def keeper(failing):
    return OneAddress(failing.address)


@pytest.fixture
async def client(keeper):
    client = TritonClient(keeper)
    yield client
    await client.close()


PASSING = {
    "gone": GONE,
    "lost backend": LOST_BACKEND,
    "queue full": QUEUE_FULL,
    "model missing": MODEL_MISSING,
    "model not ready": MODEL_NOT_READY,
    **{f"memory {number}": failure for number, failure in enumerate(OUT_OF_MEMORY)},
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
async def test_a_failure_that_passes_is_not_seen_by_the_caller(client, failing, failure):
    failing.script = [failure, failure, ANSWER]
    assert (await client.infer("tiny", IMAGE, timeout=SECONDS)).version == "1"
    assert failing.calls == 3


@pytest.mark.parametrize("failure", [GONE, LOST_BACKEND, MODEL_MISSING, MODEL_NOT_READY])
async def test_a_triton_that_keeps_failing_is_given_up_and_reported(client, keeper, failing, failure):
    failing.script = [failure]
    with pytest.raises(ModelUnavailableError):
        await client.infer("tiny", IMAGE, timeout=SECONDS)
    assert failing.calls == len(keeper.failures) == 4


@pytest.mark.parametrize("failure", [QUEUE_FULL, *OUT_OF_MEMORY])
async def test_a_triton_that_is_full_is_asked_until_the_time_is_over_and_not_taken_for_dead(
    client, keeper, failing, failure
):
    failing.script = [failure]
    with pytest.raises(DeadlineError):
        await client.infer("tiny", IMAGE, timeout=0.3)
    assert failing.calls > 4
    assert keeper.failures == []


async def test_a_triton_that_hangs_costs_no_more_than_the_callers_time(client, failing):
    failing.script = [HANG]
    with pytest.raises(DeadlineError):
        await client.infer("tiny", IMAGE, timeout=0.2)
    assert failing.calls == 1


WRONG_ANSWERS = [answer(shape=(1, 1, 32, 64)), answer(shape=(1, 2, 64, 64)), answer(datatype="FP16")]


@pytest.mark.parametrize("wrong", WRONG_ANSWERS, ids=["shape", "channels", "type"])
async def test_a_wrong_answer_is_a_fault_and_not_asked_for_again(client, failing, wrong):
    failing.script = [wrong, ANSWER]
    with pytest.raises(InternalFaultError):
        await client.infer("tiny", IMAGE, timeout=SECONDS)
    assert failing.calls == 1


async def test_a_call_waits_for_a_triton_that_comes_back(client, keeper, failing):
    keeper.change(ServerState.RECOVERING)
    call = asyncio.create_task(client.infer("tiny", IMAGE, timeout=SECONDS))
    await asyncio.sleep(0.05)
    assert failing.calls == 0
    keeper.change(ServerState.READY)
    assert (await call).version == "1"


async def test_a_call_fails_at_once_when_triton_has_been_away_for_long(client, keeper, failing, monkeypatch):
    keeper.change(ServerState.RECOVERING)
    gone_for = time.monotonic() + model_server.RETURN_SECONDS
    monkeypatch.setattr(model_server.time, "monotonic", lambda: gone_for)
    with pytest.raises(ModelUnavailableError, match="recovering"):
        await client.infer("tiny", IMAGE, timeout=SECONDS)
    assert failing.calls == 0


async def test_a_call_that_waits_for_triton_ends_when_the_service_stops(client, keeper):
    keeper.change(ServerState.RECOVERING)
    call = asyncio.create_task(client.infer("tiny", IMAGE, timeout=SECONDS))
    await asyncio.sleep(0.05)
    await keeper.stop()
    with pytest.raises(ModelUnavailableError, match="stopped"):
        await call
