"""What happens to images when Triton or the server goes away."""

import os
import signal
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import BIN, MODELS, STOP_SECONDS, descendants, read, running_server

import cutstream
from cutstream.v1 import cutstream_pb2 as pb

RECOVERY_SECONDS = 60
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def square(draw):
    mask = np.zeros((256, 256))
    mask[64:192, 64:192] = 1
    return draw(mask)


class HealthLog:
    """Collects the states that health reports, from the first on, while it is entered."""

    def __init__(self, target):
        self._channel = grpc.insecure_channel(target)
        self._call = health_pb2_grpc.HealthStub(self._channel).Watch(health_pb2.HealthCheckRequest())
        self.states = []
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._call.cancel()
        self._channel.close()

    def _collect(self):
        try:
            for response in self._call:
                self.states.append(response.status)
        except grpc.RpcError:
            return

    def wait_for(self, *states):
        """Waits until these were the last ones reported."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline:
            if tuple(self.states[-len(states) :]) == states:
                return
            time.sleep(0.02)
        raise AssertionError(f"health said {self.states}, not {states}")


@pytest.mark.parametrize("victim", ["tritonserver", "triton_python_backend_stub"])
def test_a_killed_triton_comes_back_and_no_image_is_lost(own_server, square, victim):
    raw = pb.StreamRemoveBackgroundRequest
    # Without a window of its own gRPC would take in thousands of such small images before it holds the sender back.
    answered, stop, window = [], threading.Event(), threading.Semaphore(8)

    def send():
        yield raw(config=pb.StreamConfig(options=pb.RemovalOptions(model="tiny")))
        number = 0
        while not stop.is_set():
            window.acquire()
            yield raw(chunk=pb.ImageChunk(image_id=str(number), data=square, last=True))
            number += 1
        sent.append(number)

    sent, summary = [], None
    with HealthLog(own_server.target) as health, own_server.stub() as stub:
        health.wait_for(SERVING)
        call = stub.StreamRemoveBackground(send())
        for response in call:
            if response.HasField("image"):
                answered.append(response.image)
                window.release()
            elif response.HasField("summary"):
                summary = response.summary
            if len(answered) == 20:
                for process in own_server.triton_processes(victim):
                    os.kill(process, signal.SIGKILL)
            if len(answered) > 20 and health.states[-2:] == [NOT_SERVING, SERVING]:
                stop.set()
        health.wait_for(SERVING, NOT_SERVING, SERVING)
    assert sorted(int(image.image_id) for image in answered) == list(range(sent[0]))
    assert summary.image_count == sent[0]
    assert set(summary.failed_by_reason) <= {"MODEL_UNAVAILABLE"}
    assert answered[-1].HasField("cutout")
    with own_server.client() as client:
        assert client.remove(square, model="tiny").width_px == 518


def test_sigterm_answers_what_is_accepted_and_tells_the_rest_to_go_elsewhere(own_server, square):
    half_closed = threading.Event()

    def send():
        yield pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=pb.RemovalOptions(model="tiny")))
        for number in range(6):
            yield pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id=str(number), data=square, last=True))
        half_closed.wait(STOP_SECONDS)

    images, summaries = [], []
    with own_server.stub() as stub:
        call = stub.StreamRemoveBackground(send())
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - it comes at the end of the answers
            for response in call:
                images += [response.image] if response.HasField("image") else []
                summaries += [response.summary] if response.HasField("summary") else []
                if len(images) == 1:
                    own_server.process.send_signal(signal.SIGTERM)
        half_closed.set()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "DRAINING"
    (summary,) = summaries
    assert summary.draining
    assert summary.image_count == len(images) == len({image.image_id for image in images})
    assert own_server.process.wait(STOP_SECONDS) == 0


def test_a_stopped_server_leaves_no_process_behind(tmp_path):
    with running_server(tmp_path) as server:
        processes = descendants(server.process.pid)
        assert len(processes) >= 2
    assert [process for process in processes if read(f"/proc/{process}/cmdline")] == []


def test_a_second_server_on_the_same_port_says_so(own_server):
    command = [BIN / "cutstream-server", "serve", "--listen", own_server.target]
    environment = {**os.environ, "CUTSTREAM_MODEL_REPOSITORY": MODELS}
    second = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=STOP_SECONDS)
    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("cutstream-server: cannot listen on CUTSTREAM_LISTEN")


def test_a_deadline_of_the_image_is_a_typed_error(client, square):
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(square, model="tiny", processing_timeout=0.001)
    assert caught.value.reason == "DEADLINE"


def test_a_client_that_hangs_up_frees_its_place(server, square):
    with server.stub() as stub:
        calls = [
            stub.RemoveBackground.future(
                pb.RemoveBackgroundRequest(image=square, options=pb.RemovalOptions(model="tiny"))
            )
            for _ in range(8)
        ]
        for call in calls:
            call.cancel()
        answer = stub.RemoveBackground(
            pb.RemoveBackgroundRequest(image=square, options=pb.RemovalOptions(model="tiny")), timeout=30
        )
    assert answer.cutout.width_px == 518
