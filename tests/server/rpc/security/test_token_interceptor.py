"""Calls with and without a token: what is open, what is refused before it is read, what ends when a token ends."""

import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import cutstream
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.v1 import cutstream_pb2_grpc
from cutstream_server.rpc.security import interceptor
from cutstream_server.rpc.security.tokens import new_token

SERVICE = "/cutstream.v1.BackgroundRemovalService"
UNAUTHENTICATED, PERMISSION_DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
SOON = 5.0


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
async def opened(open_server, tokens_file):
    """A channel to a server that asks for tokens."""
    async with (
        open_server(tokens_file=tokens_file.path) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        yield channel


def stream_config():
    return pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig())


def whole_image(image_id, data):
    return pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id=image_id, data=data, last=True))


# What is open


async def test_health_needs_no_token(opened):
    answer = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def listing(channel, metadata=None):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    return stub.ServerReflectionInfo(requests, metadata=metadata)


async def test_reflection_needs_a_token(opened, tokens_file):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listing(opened).read()
    assert caught.value.code() is UNAUTHENTICATED
    answer = await listing(opened, bearer(tokens_file.issue())).read()
    assert SERVICE.removeprefix("/") in {service.name for service in answer.list_services_response.service}


async def test_without_a_file_of_tokens_reflection_is_open(open_server):
    async with open_server() as server, grpc.aio.insecure_channel(server.target) as channel:
        assert (await listing(channel).read()).HasField("list_services_response")


async def test_reflection_can_be_switched_off(open_server):
    async with open_server(reflection=False) as server, grpc.aio.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listing(channel).read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# What is refused


@pytest.mark.parametrize(
    "method",
    [*(method.name for method in pb.DESCRIPTOR.services_by_name["BackgroundRemovalService"].methods), "Unknown"],
)
async def test_a_call_without_a_token_is_refused_before_any_of_its_request_has_come(opened, method):
    # Nothing is ever written: a server that waited for a request would leave the call open.
    call = opened.stream_stream(f"{SERVICE}/{method}")()
    async with asyncio.timeout(SOON):
        assert await call.code() is UNAUTHENTICATED


async def test_with_a_token_the_server_waits_for_the_request(opened, tokens_file):
    call = opened.stream_stream(f"{SERVICE}/RemoveBackground")(metadata=bearer(tokens_file.issue()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await call.code()


async def test_a_large_image_without_a_token_is_not_taken_in(opened):
    # Above the server's limit: reading it would be RESOURCE_EXHAUSTED.
    request = pb.RemoveBackgroundRequest(image=bytes(64 * 1024 * 1024))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened).RemoveBackground(request)
    assert caught.value.code() is UNAUTHENTICATED


async def test_with_a_token_that_image_is_taken_in_and_found_too_large(opened, tokens_file):
    request = pb.RemoveBackgroundRequest(image=bytes(64 * 1024 * 1024))
    stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RemoveBackground(request, metadata=bearer(tokens_file.issue()))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_refusal_has_a_reason_and_a_cause(opened):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened).GetServerInfo(pb.GetServerInfoRequest())
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == ("UNAUTHENTICATED", "cutstream", {"cause": "no_token"})


async def test_a_token_for_another_method_is_permission_denied(opened, tokens_file, cut_out):
    token = tokens_file.issue("probe", methods=("GetServerInfo",))
    stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened)
    assert (await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=bearer(token))).version
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RemoveBackground(pb.RemoveBackgroundRequest(image=cut_out), metadata=bearer(token))
    assert caught.value.code() is PERMISSION_DENIED


async def test_refusals_are_logged_without_filling_the_log(opened, caplog):
    caplog.set_level(logging.WARNING)
    stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened)
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=bearer(new_token()))
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert line.startswith(f"refused {SERVICE}/GetServerInfo from ipv4:127.0.0.1:")
    assert "cst_" not in caplog.text


# What a token ends


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(interceptor, "RECHECK_SECONDS", 0.05)


async def open_stream(channel, token):
    call = cutstream_pb2_grpc.BackgroundRemovalServiceStub(channel).StreamRemoveBackground(metadata=bearer(token))
    await call.write(stream_config())
    return call


async def test_a_withdrawn_token_ends_its_open_streams(opened, tokens_file, often, cut_out):
    call = await open_stream(opened, tokens_file.issue())
    await call.write(whole_image("1", cut_out))
    assert (await call.read()).image.HasField("cutout")
    tokens_file.write("")
    async with asyncio.timeout(SOON):
        assert await call.code() is UNAUTHENTICATED


async def test_a_token_that_stays_keeps_its_streams(opened, tokens_file, often, cut_out):
    call = await open_stream(opened, tokens_file.issue("first"))
    tokens_file.issue("second")
    await asyncio.sleep(0.3)
    await call.write(whole_image("1", cut_out))
    assert (await call.read()).image.HasField("cutout")
    await call.done_writing()
    assert (await call.read()).summary.succeeded_count == 1
    assert await call.code() is grpc.StatusCode.OK


async def test_an_error_of_the_stream_itself_comes_through(opened, tokens_file, often):
    stub = cutstream_pb2_grpc.BackgroundRemovalServiceStub(opened)
    call = stub.StreamRemoveBackground(metadata=bearer(tokens_file.issue()))
    await call.write(whole_image("1", b"no config came first"))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert b"PROTOCOL_VIOLATION" in dict(await call.trailing_metadata())["grpc-status-details-bin"]


async def test_a_stream_that_its_caller_cancels_ends(opened, tokens_file, often):
    call = await open_stream(opened, tokens_file.issue())
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


# The client library


@pytest.fixture
async def with_client(open_server, tokens_file):
    """Opens a client whose stream of images has to wait for a new token between its first and its second image."""
    answered = asyncio.Event()

    async def images(data, exchange):
        yield "1", data
        await answered.wait()
        exchange()
        # Longer than the streams of a withdrawn token live.
        await asyncio.sleep(0.5)
        yield "2", data

    async def run(token, exchange, data):
        results = []
        async with (
            open_server(tokens_file=tokens_file.path) as server,
            cutstream.AsyncClient(server.target, token=token) as client,
        ):
            async for result in client.stream(images(data, exchange), image_timeout_seconds=10):
                results.append(result)
                answered.set()
        return results

    return run


async def test_a_stream_of_the_client_goes_on_with_the_next_token(with_client, tokens_file, often, cut_out):
    tokens = {"now": tokens_file.issue("old")}

    def exchange():
        tokens_file.write("")
        tokens["now"] = tokens_file.issue("new")

    results = await with_client(lambda: tokens["now"], exchange, cut_out)
    assert [type(result) for result in results] == [cutstream.Cutout, cutstream.Cutout]


async def test_a_stream_of_the_client_with_the_old_token_alone_is_refused(with_client, tokens_file, often, cut_out):
    with pytest.raises(cutstream.CutoutError, match="UNAUTHENTICATED"):
        await with_client(tokens_file.issue("old"), lambda: tokens_file.write(""), cut_out)


async def test_a_client_with_ever_new_tokens_that_are_all_wrong_is_refused_soon(open_server, tokens_file, cut_out):
    made = []

    def token():
        made.append(new_token())
        return made[-1]

    async with (
        open_server(tokens_file=tokens_file.path) as server,
        cutstream.AsyncClient(server.target, token=token) as client,
    ):
        with pytest.raises(cutstream.CutoutError, match="UNAUTHENTICATED"):
            async for _ in client.stream([cut_out]):
                pass
    # Two streams, and once to see whether there is another token.
    assert len(made) == 3
