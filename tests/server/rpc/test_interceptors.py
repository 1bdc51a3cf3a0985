"""Each call's span and duration, with the status that the client really got."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from observing import Observer
from opentelemetry.trace import StatusCode

from cutstream_server.rpc.interceptors import METHODS, OTHER_METHOD, TelemetryInterceptor

UNARY, STREAM, INFO = (
    f"cutstream.v1.BackgroundRemovalService/{name}"
    for name in ("RemoveBackground", "StreamRemoveBackground", "GetServerInfo")
)
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
DURATION = "rpc.server.call.duration"


async def answer(requests, context):
    await context.write(await context.read())


async def abort(requests, context):
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nothing there")


async def fail(requests, context):
    raise ValueError("broken")


async def set_code(requests, context):
    context.set_code(grpc.StatusCode.DATA_LOSS)


async def hang(requests, context):
    await asyncio.sleep(60)


async def echo(requests, context):
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message)
    # The end of a cancelled stream looks like a good one until here.
    await context.write(b"end")


class Served:
    """Handlers of a test behind the interceptor, on a real port."""

    def __init__(self, channel, handlers, observer):
        self._channel = channel
        self._handlers = handlers
        self.observer = observer

    async def call(self, handler, **options):
        self._handlers[UNARY] = handler
        return await self._channel.unary_unary(f"/{UNARY}")(b"request", **options)

    def stream(self, handler):
        self._handlers[STREAM] = handler
        return self._channel.stream_stream(f"/{STREAM}")()

    async def call_method(self, method):
        return await self._channel.unary_unary(method)(b"")

    async def check_health(self):
        await health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest())

    async def ended(self, name):
        """The one span of a name, as soon as it has ended: the client may know of the end first."""
        async with asyncio.timeout(10):
            while not self.observer.spans(name):
                await asyncio.sleep(0.01)
        return self.observer.span(name)


class Handlers(grpc.GenericRpcHandler):
    def __init__(self):
        self.functions = {}

    def service(self, details):
        method = details.method.removeprefix("/")
        if method not in self.functions:
            return None
        return grpc.stream_stream_rpc_method_handler(self.functions[method])


@pytest.fixture
async def served():
    observer, handlers = Observer(), Handlers()
    server = grpc.aio.server(interceptors=[TelemetryInterceptor(observer.telemetry)])
    server.add_generic_rpc_handlers((handlers,))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(channel, handlers.functions, observer)
    await server.stop(None)


def test_the_methods_are_those_of_the_api():
    assert set(METHODS) == {UNARY, STREAM, INFO}


async def test_a_good_call_is_ok(served):
    assert await served.call(answer) == b"request"
    span = await served.ended(UNARY)
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {"rpc.system.name": "grpc", "rpc.method": UNARY, "rpc.response.status_code": "OK"}
    assert served.observer.counts(DURATION) == {(UNARY, "OK"): 1}


@pytest.mark.parametrize(
    ("handler", "code", "text"),
    [
        (abort, "FAILED_PRECONDITION", "FAILED_PRECONDITION: nothing there"),
        (fail, "UNKNOWN", "UNKNOWN: "),
        (set_code, "DATA_LOSS", "DATA_LOSS: "),
    ],
)
async def test_a_failed_call_is_an_error_with_the_code_that_the_client_got(served, handler, code, text):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(handler)
    assert caught.value.code().name == code
    span = await served.ended(UNARY)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, text)
    assert span.attributes["error.type"] == span.attributes["rpc.response.status_code"] == code
    assert served.observer.counts(DURATION) == {(UNARY, code): 1}


async def test_an_uncaught_exception_is_an_event(served):
    with pytest.raises(grpc.aio.AioRpcError):
        await served.call(fail)
    (event,) = (await served.ended(UNARY)).events
    assert event.attributes["exception.message"] == "broken"


async def test_a_call_whose_deadline_passed_is_not_taken_for_a_cancelled_one(served):
    with pytest.raises(grpc.aio.AioRpcError):
        await served.call(hang, timeout=0.1)
    assert (await served.ended(UNARY)).attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_a_cancelled_call_is_cancelled(served):
    task = asyncio.create_task(served.call(hang))
    await asyncio.sleep(0.1)
    task.cancel()
    assert (await served.ended(UNARY)).attributes["rpc.response.status_code"] == "CANCELLED"


async def test_a_stream_that_ends_well_is_ok(served):
    call = served.stream(echo)
    await call.write(b"one")
    await call.done_writing()
    assert [message async for message in call] == [b"one", b"end"]
    assert (await served.ended(STREAM)).attributes["rpc.response.status_code"] == "OK"


async def test_a_cancelled_stream_is_cancelled(served):
    call = served.stream(echo)
    await call.write(b"one")
    await call.read()
    call.cancel()
    assert (await served.ended(STREAM)).attributes["rpc.response.status_code"] == "CANCELLED"


async def test_the_span_is_below_the_callers(served):
    await served.call(answer, metadata=[("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01")])
    span = await served.ended(UNARY)
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)


async def test_an_invalid_context_begins_a_new_trace(served):
    await served.call(answer, metadata=[("traceparent", "no context"), ("tracestate", "=,=")])
    assert (await served.ended(UNARY)).parent is None


async def test_a_call_that_is_not_sampled_is_measured_all_the_same(served):
    await served.call(answer, metadata=[("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00")])
    assert served.observer.spans() == []
    assert served.observer.counts(DURATION) == {(UNARY, "OK"): 1}


async def test_methods_that_do_not_exist_are_one_series(served):
    for method in ("/made.up/One", "/made.up/Two"):
        with pytest.raises(grpc.aio.AioRpcError):
            await served.call_method(method)
    assert served.observer.counts(DURATION) == {(OTHER_METHOD, "UNIMPLEMENTED"): 2}


async def test_probes_are_left_out(served):
    await served.check_health()
    assert (served.observer.spans(), served.observer.counts(DURATION)) == ([], {})
