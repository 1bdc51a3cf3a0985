"""The blocking client: single calls, life cycle, threads and processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest

from cutstream import Client, CutoutError, RetryConfig
from cutstream.v1 import cutstream_pb2 as pb


def test_one_image_comes_back_as_a_cutout(server, client):
    cutout = client.remove(b"image", image_id="cat", output_format="webp")
    assert (cutout.data, cutout.image_id, cutout.width_px, cutout.metrics.alpha_coverage) == (
        b"egami",
        "cat",
        518,
        0.25,
    )


def test_options_are_sent(server, client):
    seen = []

    def unary(request, _):
        seen.append(request.options)
        return pb.RemoveBackgroundResponse()

    server.unary = unary
    client.remove(b"x", preset="trellis", enable_antialiasing=False)
    assert seen == [pb.RemovalOptions(preset="trellis", enable_antialiasing=False)]


def test_wrong_options_cost_no_call(server, client):
    with pytest.raises(CutoutError, match="INVALID_OPTIONS"):
        client.remove(b"x", mask_threshold=3)
    assert server.unary_calls == 0


def test_an_unreadable_file_costs_no_call(server, client, tmp_path):
    with pytest.raises(CutoutError, match="SOURCE_UNREADABLE") as caught:
        client.remove(tmp_path / "missing.jpg")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert server.unary_calls == 0


def test_a_failure_is_raised_with_its_reason_and_the_id(server, client):
    server.unary = lambda *_: server.status("NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION, found="0")
    with pytest.raises(CutoutError) as caught:
        client.remove(b"x", image_id="cat")
    error = caught.value
    assert (error.reason, error.metadata, error.image_id) == ("NO_OBJECT", {"found": "0"}, "cat")
    assert server.unary_calls == 1


@pytest.mark.parametrize(
    ("reason", "code", "failures"),
    [("MODEL_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, 3), ("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, 3),
     ("DRAINING", grpc.StatusCode.UNAVAILABLE, 3), ("INTERNAL_FAULT", grpc.StatusCode.INTERNAL, 1)],
)  # fmt: skip
def test_a_passing_failure_is_tried_again(server, client, reason, code, failures):
    server.unary = lambda request, call: (
        server.status(reason, code) if call <= failures else pb.RemoveBackgroundResponse(image_id="done")
    )
    assert client.remove(b"x").image_id == "done"
    assert server.unary_calls == failures + 1


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN])
def test_a_call_that_the_other_side_breaks_off_is_tried_again(server, client, code):
    server.unary = lambda request, call: (
        server.status(None, code) if call <= 2 else pb.RemoveBackgroundResponse(image_id="done")
    )
    assert client.remove(b"x").image_id == "done"


def test_an_internal_fault_is_tried_twice_at_most(server, client):
    server.unary = lambda *_: server.status("INTERNAL_FAULT", grpc.StatusCode.INTERNAL)
    with pytest.raises(CutoutError, match="INTERNAL_FAULT"):
        client.remove(b"x")
    assert server.unary_calls == 2


def test_the_deadline_bounds_all_attempts_together(server):
    server.unary = lambda *_: server.status("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, retry_seconds=0.2)
    with Client(server.target) as client, pytest.raises(CutoutError, match="DEADLINE") as caught:
        client.remove(b"x", image_id="cat", timeout_seconds=0.3)
    assert caught.value.image_id == "cat"
    assert server.unary_calls <= 2


def test_the_server_learns_the_remaining_time(server, client):
    client.remove(b"x", timeout_seconds=30)
    assert 25 < server.unary_seconds_left[0] <= 30


def test_without_a_server_the_error_names_the_target_and_the_cause(server):
    server.kill()
    with (
        Client(server.target, retry=RetryConfig(unreachable_seconds=0.2)) as client,
        pytest.raises(CutoutError, match="SERVER_UNREACHABLE") as caught,
    ):
        client.remove(b"x")
    assert server.target in caught.value.message
    assert "refused" in caught.value.message


def test_info_is_the_servers(server, client):
    server.server_info = pb.GetServerInfoResponse(version="9.9", input_formats=["PNG"])
    assert (client.info().version, client.info().input_formats) == ("9.9", ("PNG",))


def test_a_client_may_be_closed_twice_and_not_used_after(server):
    client = Client(server.target)
    client.remove(b"x")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.remove(b"x")


def test_closing_ends_the_thread(server):
    with Client(server.target) as client:
        client.remove(b"x")
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("cutstream-client") == 1
    assert "cutstream-client" not in [thread.name for thread in threading.enumerate()]


def test_a_client_that_nobody_holds_ends_its_thread(server):
    client = Client(server.target)
    client.remove(b"x")
    del client
    end = time.monotonic() + 5
    while "cutstream-client" in [thread.name for thread in threading.enumerate()] and time.monotonic() < end:
        time.sleep(0.01)
    assert "cutstream-client" not in [thread.name for thread in threading.enumerate()]


def test_closing_releases_a_thread_that_waits_for_a_result(server, client):
    async def never(image):
        await asyncio.Event().wait()

    server.script = never
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: list(client.stream([b"x"])))
        while not server.received:
            time.sleep(0.005)
        client.close()
        with pytest.raises((CutoutError, RuntimeError, concurrent.futures.CancelledError)):
            waiting.result(5)


def test_threads_may_share_a_client(server, client):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        cutouts = list(pool.map(lambda number: client.remove(b"%04d" % number), range(100)))
    assert [cutout.data for cutout in cutouts] == [(b"%04d" % number)[::-1] for number in range(100)]


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_client_made_before_a_fork_refuses_clearly_in_the_child(server):
    code = """
import os, sys, cutstream
client = cutstream.Client(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        client.remove(b"x")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(client.remove(b"abc").data.decode())
"""
    out, _ = run_python(code, server.target).communicate(timeout=30)
    said, answer = out.splitlines()
    assert "this Client was made before a fork" in said
    assert answer == "cba"


def test_a_new_client_in_a_fork_of_a_process_that_used_one_refuses_clearly(server):
    """Without the check gRPC ends the child by a segmentation fault, also when the parent's client is closed."""
    code = """
import os, sys, cutstream
with cutstream.Client(sys.argv[1]) as client:
    client.remove(b"x")
child = os.fork()
if child == 0:
    try:
        with cutstream.Client(sys.argv[1]) as client:
            client.remove(b"x")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    out, _ = run_python(code, server.target).communicate(timeout=30)
    assert "spawn" in out
    assert out.endswith("\n0\n")


def test_a_fork_of_a_process_that_used_no_client_can_have_one(server):
    code = """
import os, sys, cutstream
child = os.fork()
if child == 0:
    with cutstream.Client(sys.argv[1]) as client:
        print(client.remove(b"abc").data.decode(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    out, _ = run_python(code, server.target).communicate(timeout=30)
    assert out == "cba\n"


def test_a_client_that_is_never_closed_does_not_hold_up_the_exit(server):
    code = """
import sys, threading, cutstream
def source():
    yield b"x"
    threading.Event().wait()
results = cutstream.Client(sys.argv[1]).stream(source())
print(next(results).data.decode())
"""
    process = run_python(code, server.target)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("x\n", "", 0)


def test_control_c_cancels_the_stream_and_the_client_goes_on(server):
    code = """
import signal, sys, cutstream
# A test run in the background of a shell has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with cutstream.Client(sys.argv[1]) as client:
    try:
        print("begin", flush=True)
        for _ in client.stream([("slow", b"x")]):
            pass
    except KeyboardInterrupt:
        print(client.remove(b"after").data.decode(), flush=True)
"""

    async def never(image):
        await asyncio.Event().wait()

    server.script = never
    process = run_python(code, server.target)
    while not server.received:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("begin\nretfa\n", "", 0)
    assert server.cancelled_streams == 1
