import dataclasses
import os

import pytest

from cutstream_server.segmentation.embedded.process import TritonStartError, start_triton


@pytest.fixture
def log_of(launch, repository, tmp_path, write_config):
    """Starts a Triton with the tiny network configured otherwise, and gives its log when the network is loaded."""

    async def start(**configuration):
        write_config(tmp_path, "tiny", **configuration)
        (tmp_path / "tiny" / "1").symlink_to(repository / "tiny" / "1")
        process = await start_triton(dataclasses.replace(launch, repositories=(tmp_path,)))
        await process.stop(grace=0)
        return process.run.log.read_text()

    return start


async def test_float32_can_be_asked_for(log_of):
    log = await log_of(parameters={"HINT_BF16": "NO"})
    assert "INFERENCE_PRECISION_HINT <Type: 'float32'>" in log


async def test_threads_and_streams_are_those_of_the_parameters(log_of):
    log = await log_of(parameters={"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"})
    assert "NUM_STREAMS 1, INFERENCE_NUM_THREADS 1" in log


async def test_instances_share_the_cores(log_of):
    log = await log_of(instances=2, parameters={"NUM_STREAMS": "1"})
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert log.count(f"INFERENCE_NUM_THREADS {share}") == 2


async def test_a_parameter_with_a_wrong_value_stops_the_start(log_of):
    with pytest.raises(TritonStartError, match="number of streams from str: many"):
        await log_of(parameters={"NUM_STREAMS": "many"})


async def test_an_unknown_device_stops_the_start(log_of):
    with pytest.raises(TritonStartError, match="TPU"):
        await log_of(parameters={"TARGET_DEVICE": "TPU"})


async def test_compiled_networks_are_kept_for_the_next_start(launch, log_of):
    await log_of()
    kept = list((launch.environment.folder / "cache" / "tiny").glob("*.blob"))
    assert 1 <= len(kept) <= 3
