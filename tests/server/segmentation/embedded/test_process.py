import dataclasses
import socket
import urllib.request
from pathlib import Path

import pytest

from cutstream_server.segmentation.embedded import process as process_module
from cutstream_server.segmentation.embedded.environment import open_environment
from cutstream_server.segmentation.embedded.process import LOOPBACK, Launch, Ports, TritonStartError, start_triton
from cutstream_server.segmentation.embedded.runs import RUN_VARIABLE


async def test_a_clean_stop_leaves_nothing(launch, remains):
    process = await start_triton(launch)
    assert len(process.run.processes()) == 2
    await process.stop()
    assert remains(process.run) == []
    assert "Signal (15) received" in process.run.log.read_text()


async def test_a_stop_after_a_crash_leaves_nothing(launch, remains):
    process = await start_triton(launch)
    process._process.kill()
    assert await process.wait() == -9
    await process.stop()
    assert remains(process.run) == []


async def test_a_missing_model_is_named_with_the_log(launch):
    with pytest.raises(TritonStartError) as caught:
        await start_triton(dataclasses.replace(launch, models=("no-such-model",)))
    assert "failed to poll model 'no-such-model'" in str(caught.value)
    assert str(caught.value.log) in str(caught.value)
    assert caught.value.log.exists()


async def test_a_network_that_is_no_onnx_is_named_with_the_log(launch, tmp_path, repository):
    broken = tmp_path / "tiny"
    (broken / "1").mkdir(parents=True)
    (broken / "config.pbtxt").write_bytes((repository / "tiny" / "config.pbtxt").read_bytes())
    (broken / "1" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(TritonStartError, match="failed to load 'tiny'"):
        await start_triton(dataclasses.replace(launch, repositories=(tmp_path,)))


async def test_a_failed_start_leaves_nothing(launch, remains, monkeypatch):
    opened = []
    open_run = process_module.open_run
    monkeypatch.setattr(process_module, "open_run", lambda: opened.append(open_run()) or opened[-1])
    with pytest.raises(TritonStartError):
        await start_triton(dataclasses.replace(launch, models=("no-such-model",)))
    assert remains(opened[0]) == []


async def test_a_start_that_takes_too_long_says_so(launch):
    with pytest.raises(TritonStartError, match=r"not ready after 0\.1 s"):
        await start_triton(launch, ready_seconds=0.1)


async def test_a_port_that_is_taken_meanwhile_is_changed(launch, monkeypatch):
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        offers = [Ports(taken.getsockname()[1], process_module._free_ports().metrics), process_module._free_ports()]
        monkeypatch.setattr(process_module, "_free_ports", lambda: offers.pop(0))
        process = await start_triton(launch)
        await process.stop(grace=0)
    assert offers == []


async def test_another_tritons_answer_is_not_taken_for_its_own(launch, triton, monkeypatch):
    offers = [dataclasses.replace(process_module._free_ports(), grpc=triton.ports.grpc), process_module._free_ports()]
    monkeypatch.setattr(process_module, "_free_ports", lambda: offers.pop(0))
    process = await start_triton(launch)
    assert process.url != triton.url
    await process.stop(grace=0)


def test_it_listens_on_loopback_alone(triton):
    for port in (triton.ports.grpc, triton.ports.metrics):
        socket.create_connection((LOOPBACK, port)).close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port))


def test_its_metrics_can_be_read(triton):
    with urllib.request.urlopen(f"http://{LOOPBACK}:{triton.ports.metrics}/metrics") as answer:
        assert b"nv_inference_count" in answer.read()


async def test_it_knows_nothing_of_the_servers_environment(launch, monkeypatch):
    monkeypatch.setenv("CUTSTREAM_SECRET", "of the server")
    process = await start_triton(launch)
    variables = [process_variables(each) for each in process.run.processes()]
    await process.stop(grace=0)
    assert [RUN_VARIABLE in each for each in variables] == [True, True]
    assert ["CUTSTREAM_SECRET" in each for each in variables] == [False, False]


def process_variables(process):
    environment = Path(f"/proc/{process}/environ").read_text()
    return [entry.partition("=")[0] for entry in environment.split("\0") if entry]


async def test_a_configuration_can_be_chosen_and_arguments_added(launch, repository, tmp_path):
    model = tmp_path / "tiny"
    (model / "configs").mkdir(parents=True)
    (model / "1").symlink_to(repository / "tiny" / "1")
    config = (repository / "tiny" / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config)
    parameter = 'parameters { key: "INFERENCE_NUM_THREADS" value: { string_value: "1" } }\n'
    (model / "configs" / "narrow.pbtxt").write_text(config + parameter)
    arguments = ("--log-verbose=1",)
    process = await start_triton(Launch(launch.environment, (tmp_path,), ("tiny",), "narrow", arguments))
    log = process.run.log.read_text()
    await process.stop(grace=0)
    assert "INFERENCE_NUM_THREADS 1" in log
    assert "ModelInstanceState" in log or "model_instance" in log


async def test_several_repositories_are_served(launch, tmp_path, repository):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "1").symlink_to(repository / "tiny" / "1")
    config = (repository / "tiny" / "config.pbtxt").read_text()
    (tmp_path / "other" / "config.pbtxt").write_text(config.replace('"tiny"', '"other"'))
    both = dataclasses.replace(launch, repositories=(repository, tmp_path), models=("tiny", "other"))
    process = await start_triton(both)
    assert "successfully loaded 'other'" in process.run.log.read_text()
    await process.stop(grace=0)


async def test_names_of_files_need_not_be_ascii(launch, tmp_path, repository):
    place = tmp_path / "modèles"
    place.mkdir()
    (place / "tiny").symlink_to(repository / "tiny")
    (place / "triton").symlink_to(launch.environment.folder)
    process = await start_triton(Launch(open_environment(place / "triton"), (place,), ("tiny",)))
    await process.stop(grace=0)
