"""Several models on one real server: chosen by each image, put beside each other and taken away while it runs."""

import itertools
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from running import TINY_ONLY, running_server

import cutstream
from cutstream_server.segmentation.preparation import build, weights
from cutstream_server.segmentation.preparation.build import Wrapped, put_into_repository
from cutstream_server.segmentation.preparation.digests import file_digest
from cutstream_server.segmentation.preparation.interface import Interface
from cutstream_server.segmentation.preparation.sources import Source

SECONDS = 60
SIDE = 96
PLAIN = Interface(side=SIDE, mean=(0, 0, 0), std=(1, 1, 1))


class _Silent:
    def say(self, line):
        pass


def red_or_green(channel, *, layers=0):
    """A network of one size whose mask is a channel, with some layers of 66 KB behind it that change nothing."""
    pick = np.zeros((1, 3, 1, 1), np.float32)
    pick[0, channel] = 1
    # 128 channels of which the first one goes on.
    widen, narrow, same = np.zeros((128, 1, 1, 1)), np.zeros((1, 128, 1, 1)), np.eye(128).reshape(128, 128, 1, 1)
    widen[0], narrow[0, 0] = 1, 1
    weights = {"pick": pick, "widen": widen, "narrow": narrow, "same": same}
    steps = ["pick", *(["widen", *["same"] * layers, "narrow"] if layers else [])]
    names = ["picture", *(f"step{index}" for index in range(len(steps) - 1)), "mask"]
    nodes = [
        helper.make_node("Conv", [before, weight], [after])
        for before, weight, after in zip(names[:-1], steps, names[1:], strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        "channel",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put(name, model, repository, scratch):
    """Puts a network into a repository as `model add` does."""
    file = scratch / f"{name}.onnx"
    onnx.save(model, file)
    source = Source(file, file.name, file_digest(file), "MIT")
    wrapped = Wrapped(source, PLAIN, name, "", "MIT", True)
    put_into_repository(wrapped, repository / name / "1" / "model.onnx", _Silent(), photo=None, check=False)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("more_models")


@pytest.fixture(scope="module")
def server(tmp_path_factory, repository, scratch):
    """Serves tiny (the red channel) and two networks of one size: the red and the green channel."""
    put("red", red_or_green(0), repository, scratch)
    put("green", red_or_green(1), repository, scratch)
    with running_server(tmp_path_factory.mktemp("server"), f"{TINY_ONLY},{repository}") as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as opened:
        yield opened


def picture(red_side, green_side):
    """A square in the red channel on the left, another one in the green channel on the right, as PNG."""
    image = np.zeros((192, 384, 3), np.uint8)
    image[48 : 48 + red_side, 48 : 48 + red_side, 2] = 255
    image[48 : 48 + green_side, 240 : 240 + green_side, 1] = 255
    return cv2.imencode(".png", image)[1].tobytes()


def models(client):
    return {model.name: model for model in client.info().models}


def wait_for(client, name, state):
    """Waits until a model is in a state, None for gone."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = models(client).get(name)
        if (found.state if found else None) == state:
            return
        time.sleep(0.2)
    raise AssertionError(f"{name} is {found}, not {state}")


def left_of_box(result):
    return result.metrics.foreground_box.left_px


def test_the_server_tells_the_models_with_state_licence_and_sides(client):
    found = models(client)
    assert set(found) >= {"tiny", "red", "green"}
    green = found["green"]
    assert (green.version, green.state, green.licence, green.commercial_use) == ("1", "ready", "MIT", True)
    assert (green.side_px, green.other_sides, found["tiny"].other_sides) == (SIDE, False, True)


def test_two_models_take_turns_in_one_stream_and_every_image_gets_its_own(client):
    image = picture(96, 96)
    names = list(itertools.islice(itertools.cycle(["red", "green", "tiny"]), 24))
    images = [cutstream.StreamImage(image, f"{index}-{name}", {"model": name}) for index, name in enumerate(names)]
    answered = {result.image_id: result for result in client.stream(images)}
    assert len(answered) == 24
    for image_id, result in answered.items():
        name = image_id.partition("-")[2]
        assert result.metrics.model_name == name
        # The squares begin at 48 and at 240.
        assert left_of_box(result) == pytest.approx(240 if name == "green" else 48, abs=5)


def test_a_model_of_one_size_refuses_other_scales_with_its_size(client):
    with pytest.raises(cutstream.CutoutError, match="96 x 96 only") as caught:
        client.remove(picture(96, 96), model="red", enable_multi_scale=True)
    assert caught.value.reason == "INVALID_OPTIONS"


@pytest.mark.parametrize("profile", ["fast", "balanced", "quality"])
def test_a_model_of_one_size_serves_every_profile(client, profile):
    assert left_of_box(client.remove(picture(96, 96), model="green", profile=profile)) == pytest.approx(240, abs=5)


def test_a_model_that_is_put_into_the_repository_is_served_without_a_restart(client, repository, scratch):
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(picture(96, 96), model="blue")
    assert caught.value.reason == "UNKNOWN_MODEL"
    put("blue", red_or_green(1), repository, scratch)
    wait_for(client, "blue", "ready")
    assert left_of_box(client.remove(picture(96, 96), model="blue")) == pytest.approx(240, abs=5)
    # Built anew, as another one.
    shutil.rmtree(repository / "blue" / "1")
    put("blue", red_or_green(0), repository, scratch)
    deadline = time.monotonic() + SECONDS
    while left_of_box(client.remove(picture(96, 96), model="blue")) > 100:
        assert time.monotonic() < deadline
    shutil.rmtree(repository / "blue")
    wait_for(client, "blue", None)


def test_a_model_that_cannot_be_loaded_is_told_and_leaves_the_others_alone(client, repository, server):
    shutil.copytree(repository / "red", repository / "broken")
    config = repository / "broken" / "config.pbtxt"
    config.write_text(config.read_text().replace('"red"', '"broken"').replace('"openvino"', '"no-such-backend"'))
    wait_for(client, "broken", "failed")
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove(picture(96, 96), model="broken", processing_timeout=5.0)
    assert caught.value.reason == "MODEL_UNAVAILABLE"
    assert "'broken' cannot be loaded" in server.log.read_text()
    assert left_of_box(client.remove(picture(96, 96), model="green")) == pytest.approx(240, abs=5)
    shutil.rmtree(repository / "broken")
    wait_for(client, "broken", None)


def test_a_model_that_is_taken_away_while_in_use_finishes_its_images(client, repository, scratch, server):
    put("busy", red_or_green(1), repository, scratch)
    wait_for(client, "busy", "ready")
    image = picture(96, 96)
    results, stop = [], threading.Event()

    def endless():
        for index in itertools.count():
            if stop.is_set():
                return
            yield cutstream.StreamImage(image, str(index), {"model": "busy"})

    def work():
        with server.client() as own:
            results.extend(own.stream(endless()))

    thread = threading.Thread(target=work)
    thread.start()
    while len(results) < 1 and thread.is_alive():
        time.sleep(0.05)
    shutil.rmtree(repository / "busy")
    wait_for(client, "busy", None)
    stop.set()
    thread.join(SECONDS)
    outcomes = [getattr(result, "reason", "") or "cutout" for result in results]
    assert set(outcomes) == {"cutout", "UNKNOWN_MODEL"}
    # Every image that was begun is a right cutout; refused are only those that came later.
    for result in results:
        if not getattr(result, "reason", ""):
            assert left_of_box(result) == pytest.approx(240, abs=5)


def test_the_default_model_stays_whatever_becomes_of_its_files(tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(Path(TINY_ONLY) / "tiny", folder / "tiny")
    with running_server(tmp_path, str(folder)) as running, running.client() as own:
        shutil.rmtree(folder / "tiny")
        deadline = time.monotonic() + SECONDS
        while "it stays loaded" not in running.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert left_of_box(own.remove(picture(96, 0))) == pytest.approx(48, abs=5)


def test_a_network_whose_weights_lie_in_a_second_file_is_served(client, repository, scratch, monkeypatch):
    monkeypatch.setattr(
        build, "write_network", lambda model, target: weights.write_network(model, target, largest_file_bytes=0)
    )
    put("parted", red_or_green(1, layers=1), repository, scratch)
    assert (repository / "parted" / "1" / "model.onnx.data").stat().st_size > 0
    wait_for(client, "parted", "ready")
    assert left_of_box(client.remove(picture(96, 96), model="parted")) == pytest.approx(240, abs=5)
    shutil.rmtree(repository / "parted")
