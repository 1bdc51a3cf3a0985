"""The protocol of streams, as the API's comments promise it."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cutstream.v1 import cutstream_pb2 as pb

MIB = 1024 * 1024


def config(**options):
    return pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=pb.RemovalOptions(**options)))


def chunk(image_id, data, *, last=True, **first):
    return pb.StreamRemoveBackgroundRequest(chunk=pb.ImageChunk(image_id=image_id, data=data, last=last, **first))


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "cutstream"
    return info.reason


def status_of(error):
    trailers = dict(error.trailing_metadata())
    return status_pb2.Status.FromString(trailers["grpc-status-details-bin"])


async def abort_of(harness, *messages):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.exchange(*messages)
    return caught.value


async def test_each_image_is_answered_once_and_the_summary_counts(harness):
    results, summary = await harness.exchange(config(), chunk("a", b"A"), chunk("b", b"broken"), chunk("c", b"C"))
    assert results["a"].cutout.image == b"A"
    assert reason_of(results["b"].error) == "IMAGE_UNDECODABLE"
    assert (summary.image_count, summary.succeeded_count, summary.failed_count) == (3, 2, 1)
    assert dict(summary.failed_by_reason) == {"IMAGE_UNDECODABLE": 1}


async def test_chunks_are_joined_in_order(harness):
    results, _ = await harness.exchange(
        config(), chunk("a", b"one", last=False, size_bytes=8), chunk("a", b"two", last=False), chunk("a", b"33")
    )
    assert results["a"].cutout.image == b"onetwo33"


async def test_answers_come_in_the_order_of_completion(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(config())
    await call.write(chunk("slow", b"slow"))
    await call.write(chunk("quick", b"quick"))
    first = await call.read()
    harness.service.gate.set()
    second = await call.read()
    await call.done_writing()
    assert (first.image.image_id, second.image.image_id) == ("quick", "slow")


async def test_a_cutout_over_one_mebibyte_comes_in_chunks_before_its_result(harness):
    image = bytes(range(256)) * (9 * MIB // 256)
    messages = [chunk("a", image[i : i + MIB], last=i + MIB >= len(image)) for i in range(0, len(image), MIB)]
    messages[0].chunk.size_bytes = len(image)
    call = harness.stub.StreamRemoveBackground(iter([config(), *messages]))
    kinds, data = [], b""
    async for response in call:
        kinds.append(response.WhichOneof("payload"))
        data += response.cutout_chunk.data
    assert kinds == ["cutout_chunk"] * 9 + ["image", "summary"]
    assert data == image


async def test_another_image_ends_an_unfinished_one(harness):
    results, _ = await harness.exchange(config(), chunk("a", b"A", last=False, size_bytes=2), chunk("b", b"B"))
    assert reason_of(results["a"].error) == "INCOMPLETE_IMAGE"
    assert results["b"].cutout.image == b"B"


async def test_a_half_close_in_the_middle_of_an_image_answers_it_and_the_stream_ends_well(harness):
    results, summary = await harness.exchange(config(), chunk("a", b"A", last=False, size_bytes=2))
    assert reason_of(results["a"].error) == "INCOMPLETE_IMAGE"
    assert summary.failed_count == 1


async def test_fewer_bytes_than_announced_are_an_incomplete_image(harness):
    results, _ = await harness.exchange(config(), chunk("a", b"A", last=False, size_bytes=9), chunk("a", b"B"))
    assert reason_of(results["a"].error) == "INCOMPLETE_IMAGE"


async def test_more_bytes_than_announced_end_the_image_and_the_rest_of_it_is_discarded(harness):
    results, summary = await harness.exchange(
        config(),
        chunk("a", b"A", last=False, size_bytes=2),
        chunk("a", b"BCD", last=False),
        chunk("a", b"E"),
        chunk("b", b"B"),
    )
    assert reason_of(results["a"].error) == "INVALID_OPTIONS"
    assert results["b"].cutout.image == b"B"
    assert summary.image_count == 2


async def test_several_chunks_need_an_announced_size(harness):
    results, _ = await harness.exchange(config(), chunk("a", b"A", last=False), chunk("a", b"B"), chunk("b", b"B"))
    assert reason_of(results["a"].error) == "INVALID_OPTIONS"
    assert results["b"].cutout.image == b"B"


async def test_an_image_over_the_limit_is_refused_by_its_announced_size(harness):
    results, _ = await harness.exchange(config(), chunk("a", b"A", last=False, size_bytes=10_000_001))
    assert reason_of(results["a"].error) == "IMAGE_TOO_LARGE"


async def test_a_chunk_over_four_mebibytes_is_refused(harness):
    results, _ = await harness.exchange(config(), chunk("a", bytes(4 * MIB + 1)), chunk("b", b"B"))
    assert reason_of(results["a"].error) == "IMAGE_TOO_LARGE"
    assert results["b"].cutout.image == b"B"


async def test_an_image_of_no_bytes_reaches_the_pipeline_which_knows_what_to_say(harness):
    results, _ = await harness.exchange(config(), chunk("a", b""))
    assert "a" in results


async def test_an_id_may_be_used_again_after_its_answer(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(config())
    for data in (b"first", b"second"):
        await call.write(chunk("a", data))
        assert (await call.read()).image.cutout.image == data
    await call.done_writing()


async def test_an_id_in_use_aborts_the_stream(harness):
    error = await abort_of(harness, config(), chunk("a", b"slow"), chunk("a", b"A", size_bytes=1))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(status_of(error)) == "PROTOCOL_VIOLATION"


@pytest.mark.parametrize("image_id", ["", "x" * 257])
async def test_an_id_that_no_answer_can_name_aborts_the_stream(harness, image_id):
    error = await abort_of(harness, config(), chunk(image_id, b"A"))
    assert reason_of(status_of(error)) == "PROTOCOL_VIOLATION"


async def test_a_stream_without_config_is_aborted(harness):
    error = await abort_of(harness, chunk("a", b"A"))
    assert reason_of(status_of(error)) == "PROTOCOL_VIOLATION"


async def test_an_empty_stream_is_aborted(harness):
    error = await abort_of(harness)
    assert reason_of(status_of(error)) == "PROTOCOL_VIOLATION"


async def test_a_second_config_aborts_the_stream(harness):
    error = await abort_of(harness, config(), config())
    assert reason_of(status_of(error)) == "PROTOCOL_VIOLATION"


async def test_wrong_stream_options_abort_the_stream_and_name_the_fields(harness):
    error = await abort_of(harness, config(padding_percentage=-1, mask_threshold=2))
    violations = error_details_pb2.BadRequest()
    assert status_of(error).details[1].Unpack(violations)
    fields = {violation.field for violation in violations.field_violations}
    assert fields == {"config.options.padding_percentage", "config.options.mask_threshold"}


async def test_wrong_image_options_end_that_image_only(harness):
    results, _ = await harness.exchange(
        config(), chunk("a", b"A", options=pb.RemovalOptions(mask_threshold=2)), chunk("b", b"B")
    )
    assert reason_of(results["a"].error) == "INVALID_OPTIONS"
    assert results["b"].cutout.image == b"B"


async def test_stream_options_hold_for_images_that_set_none(harness):
    results, _ = await harness.exchange(
        config(padding_percentage=0.5),
        chunk("a", b"A"),
        chunk("b", b"B", options=pb.RemovalOptions(padding_percentage=0.1)),
    )
    assert results["a"].metrics.effective_options.padding_percentage == 0.5
    assert results["b"].metrics.effective_options.padding_percentage == 0.1


async def test_no_more_images_than_the_window_are_in_work(harness):
    messages = [chunk(str(i), b"slow") for i in range(8)]
    exchange = asyncio.create_task(harness.exchange(config(), *messages))
    await asyncio.sleep(0.3)
    harness.service.gate.set()
    results, _ = await exchange
    assert len(results) == 8
    assert harness.service.most_running == harness.settings.max_in_flight_per_stream


async def test_a_fault_that_leaves_an_image_unanswered_aborts_the_stream_without_its_text(harness):
    error = await abort_of(harness, config(), chunk("a", b"fault"))
    assert reason_of(status_of(error)) == "INTERNAL_FAULT"
    assert "secret" not in error.details()


async def test_draining_answers_what_is_complete_and_says_so(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(config())
    await call.write(chunk("complete", b"slow"))
    await call.write(chunk("unfinished", b"x", last=False, size_bytes=2))
    while harness.admission.images < 2:
        await asyncio.sleep(0.01)
    harness.draining.set()
    harness.service.gate.set()
    result, summary = await call.read(), await call.read()
    assert result.image.image_id == "complete"
    assert summary.summary.draining
    assert summary.summary.image_count == 1
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    status = status_pb2.Status.FromString(dict(await call.trailing_metadata())["grpc-status-details-bin"])
    assert reason_of(status) == "DRAINING"


async def test_a_cancelled_stream_gives_its_places_back(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(config())
    await call.write(chunk("a", b"slow"))
    await call.write(chunk("b", b"x", last=False, size_bytes=2))
    while harness.admission.images < 2:
        await asyncio.sleep(0.01)
    call.cancel()
    for _ in range(500):
        if harness.admission.images == 0:
            break
        await asyncio.sleep(0.01)
    assert harness.admission.images == 0


@pytest.mark.parametrize("harness", [{"pause_seconds": 0.2}], indirect=True)
async def test_a_pause_in_the_middle_of_an_image_ends_it(harness):
    call = harness.stub.StreamRemoveBackground()
    await call.write(config())
    await call.write(chunk("a", b"x", last=False, size_bytes=2))
    answer = await call.read()
    assert reason_of(answer.image.error) == "UPLOAD_TIMEOUT"
    await call.write(chunk("a", b"y"))
    await call.write(chunk("b", b"B"))
    assert (await call.read()).image.cutout.image == b"B"
    await call.done_writing()
