"""Streams: every image comes out exactly once, whatever the server does, and memory stays inside the window."""

from __future__ import annotations

import asyncio
import collections
import threading
import time
import tracemalloc

import grpc
import pytest

from cutstream import Client, Cutout, CutoutError, RetryConfig, StreamImage
from cutstream.v1 import cutstream_pb2 as pb
from cutstream.wire import CHUNK_BYTES

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def images(count: int) -> list[tuple[str, bytes]]:
    return [(f"id {number}", b"image %d" % number) for number in range(count)]


def ids(results: list[Cutout | CutoutError]) -> list[str]:
    return [result.image_id for result in results]


def eventually(condition) -> bool:
    """Whether the condition comes true within 5 seconds."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


async def never(image):
    await asyncio.Event().wait()


# Answers


def test_every_image_comes_out_once_as_its_own_cutout(server, client):
    results = list(client.stream(images(50)))
    assert sorted(ids(results)) == sorted(image_id for image_id, _ in images(50))
    assert {result.image_id: result.data for result in results} == {i: data[::-1] for i, data in images(50)}


def test_the_stream_ends_cleanly_with_the_servers_summary(server, client):
    list(client.stream(images(3)))
    assert (server.clean_streams, server.cancelled_streams) == (1, 0)


def test_no_images_need_no_server(fast_retry):
    with Client("127.0.0.1:1", retry=fast_retry) as client:
        assert list(client.stream([])) == []


def test_a_failed_image_is_a_value_with_its_metrics_and_the_stream_lives_on(server, client):
    async def script(image):
        if image.image_id == "id 2":
            return server.failure(image, "NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION, found="0")
        return server.success(image)

    server.script = script
    results = {result.image_id: result for result in client.stream(images(5))}
    error = results.pop("id 2")
    assert isinstance(error, CutoutError)
    assert (error.reason, error.code, error.metadata) == (
        "NO_OBJECT",
        grpc.StatusCode.FAILED_PRECONDITION,
        {"found": "0"},
    )
    assert error.metrics.alpha_coverage == 0.25
    assert all(isinstance(result, Cutout) for result in results.values())
    assert len(server.stream_configs) == 1


def test_results_come_in_the_order_of_completion(server, client):
    slow_may_go = asyncio.Event()

    async def script(image):
        if image.image_id == "id 0":
            await slow_may_go.wait()
        elif image.image_id == "id 2":
            slow_may_go.set()
        return server.success(image)

    server.script = script
    assert ids(list(client.stream(images(3)))) == ["id 1", "id 2", "id 0"]


def test_ordered_results_come_in_the_order_of_the_images(server, client):
    async def script(image):
        await asyncio.sleep(0.02 * (int(image.image_id[3:]) % 3 == 0))
        return server.success(image)

    server.script = script
    assert ids(list(client.stream(images(20), ordered=True))) == [image_id for image_id, _ in images(20)]


def test_a_cutout_in_chunks_is_put_together(server, client):
    async def script(image):
        parts = [
            server.response(cutout_chunk=pb.CutoutChunk(image_id=image.image_id, data=part)) for part in (b"ab", b"cd")
        ]
        result = pb.ImageResult(image_id=image.image_id, cutout=server.cutout(b""), metrics=server.metrics())
        return [*parts, server.response(image=result)]

    server.script = script
    assert [result.data for result in client.stream(images(2))] == [b"abcd", b"abcd"]


# What is sent


def test_an_image_travels_in_chunks_with_its_size(server, client):
    size_bytes = 2 * CHUNK_BYTES + 1
    list(client.stream([b"x" * size_bytes]))
    assert (server.received[0].chunk_sizes, server.received[0].size_bytes) == (
        [CHUNK_BYTES, CHUNK_BYTES, 1],
        size_bytes,
    )


def test_an_image_of_whole_chunks_has_no_empty_one_at_its_end(server, client):
    list(client.stream([b"x" * CHUNK_BYTES]))
    assert server.received[0].chunk_sizes == [CHUNK_BYTES]


def test_an_empty_image_is_sent_for_the_server_to_judge(server, client):
    list(client.stream([b""]))
    assert server.received[0].data == b""


def test_options_of_the_stream_and_of_an_image_are_sent_apart(server, client):
    list(client.stream([StreamImage(b"x", options={"output_format": "webp"})], mask_threshold=0.7))
    assert server.stream_configs[0].options == pb.RemovalOptions(mask_threshold=0.7)
    assert server.received[0].options == pb.RemovalOptions(output_format=pb.OUTPUT_FORMAT_WEBP)


def test_images_without_id_are_named_by_path_or_number(server, client, tmp_path):
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"x")
    assert ids(list(client.stream([b"a", path, StreamImage(b"c")], ordered=True))) == ["0", str(path), "2"]


def test_images_of_one_id_are_never_in_work_together(server, client):
    working = set()

    async def script(image):
        assert image.image_id not in working
        working.add(image.image_id)
        await asyncio.sleep(0.005)
        working.remove(image.image_id)
        return server.success(image)

    server.script = script
    results = list(client.stream([("same", b"%d" % number) for number in range(5)]))
    assert sorted(result.data for result in results) == [b"0", b"1", b"2", b"3", b"4"]


# Images that cannot be sent


def test_an_unreadable_file_is_the_error_of_its_image_alone(server, client, tmp_path):
    results = list(client.stream([("a", b"x"), ("b", tmp_path / "missing.jpg"), ("c", b"y")], ordered=True))
    assert [isinstance(result, Cutout) for result in results] == [True, False, True]
    assert (results[1].image_id, results[1].reason) == ("b", "SOURCE_UNREADABLE")
    assert isinstance(results[1].__cause__, FileNotFoundError)


def test_wrong_options_of_an_image_are_its_error_alone(server, client):
    results = list(client.stream([("a", b"x"), StreamImage(b"x", "b", {"framing": "wide"})], ordered=True))
    assert (results[1].image_id, results[1].reason) == ("b", "INVALID_OPTIONS")
    assert [image.image_id for image in server.received] == ["a"]


def test_wrong_options_of_the_stream_are_raised_before_the_first_image_is_read(client):
    def unread():
        raise AssertionError("read")
        yield

    with pytest.raises(CutoutError, match="INVALID_OPTIONS"):
        client.stream(unread(), framing="wide")


def test_one_image_in_the_place_of_many_is_a_type_error(client):
    for one in ("photo.jpg", b"bytes"):
        with pytest.raises(TypeError, match="iterable of images"):
            client.stream(one)


def test_what_the_callers_iterator_raises_comes_after_the_results_of_what_it_gave(server, client):
    def broken():
        yield from images(5)
        raise LookupError("the caller's")

    came_out = []
    with pytest.raises(LookupError, match="the caller's"):
        came_out.extend(client.stream(broken()))
    assert sorted(ids(came_out)) == sorted(image_id for image_id, _ in images(5))


def test_an_item_that_is_no_image_is_a_type_error(server, client):
    with pytest.raises(TypeError, match="not int"):
        list(client.stream([7]))


# Windows


def test_the_server_never_has_more_images_than_the_window(server, client):
    async def script(image):
        await asyncio.sleep(0.002)
        return server.success(image)

    server.script = script
    list(client.stream(images(60), window=5))
    assert server.max_unanswered == 5


def test_a_slow_consumer_holds_back_the_source(server, client):
    taken = 0

    def counted():
        nonlocal taken
        for image in images(100):
            taken += 1
            yield image

    results = client.stream(counted(), window=4)
    for consumed in range(1, 20):
        next(results)
        assert eventually(lambda: taken == consumed + 4)  # noqa: B023 - called at once
        time.sleep(0.002)
        assert taken == consumed + 4
    results.close()


def test_an_ordered_stream_waits_for_its_first_image_inside_the_window(server, client):
    first_may_go = asyncio.Event()

    async def script(image):
        if image.image_id == "id 0":
            await first_may_go.wait()
        elif image.image_id == "id 4":
            first_may_go.set()
        return server.success(image)

    server.script = script
    assert len(list(client.stream(images(20), window=5, ordered=True))) == 20
    assert server.max_unanswered <= 5


def test_the_window_of_bytes_bounds_what_is_in_work(server, client):
    in_work = collections.Counter()
    most = 0

    async def script(image):
        nonlocal most
        in_work["bytes"] += len(image.data)
        most = max(most, in_work["bytes"])
        await asyncio.sleep(0.005)
        in_work["bytes"] -= len(image.data)
        return server.success(image)

    server.script = script
    assert len(list(client.stream([b"x" * 1000] * 20, window=8, window_bytes=3500))) == 20
    assert most == 3000


def test_an_image_larger_than_the_window_of_bytes_goes_alone(server, client):
    sizes = [10, 5000, 10, 10]
    assert len(list(client.stream([b"x" * size for size in sizes], window_bytes=100))) == 4


def test_memory_stays_inside_the_window(server, client):
    async def script(image):
        answer = server.success(image)
        answer[0].image.cutout.image = b"small"
        image.data = b""  # the test's server is in this process
        return answer

    server.script = script
    size_bytes, window = 1_000_000, 3
    tracemalloc.start()
    try:
        for number, _ in enumerate(client.stream((bytes(size_bytes) for _ in range(60)), window=window)):
            if number == 10:
                tracemalloc.reset_peak()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Each image of the window may exist three times: the caller's, ours, and as the chunks on their way to the server.
    assert peak_bytes < 3 * (window + 1) * size_bytes


@pytest.mark.parametrize("wrong", [{"window": 0}, {"window_bytes": 0}])
def test_a_window_of_nothing_is_refused(client, wrong):
    with pytest.raises(ValueError, match="at least 1"):
        client.stream([], **wrong)


# Retries on a living stream


def failing_first(server, reason: str, code: grpc.StatusCode, times: int, **details: object):
    """A script that fails the first attempts of every image."""

    async def script(image):
        if image.attempt <= times:
            return server.failure(image, reason, code, **details)
        return server.success(image)

    return script


@pytest.mark.parametrize(
    ("reason", "code", "times"),
    [("MODEL_UNAVAILABLE", UNAVAILABLE, 4), ("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, 4),
     ("DRAINING", UNAVAILABLE, 4), ("INTERNAL_FAULT", grpc.StatusCode.INTERNAL, 1)],
)  # fmt: skip
def test_a_passing_failure_is_sent_again_on_the_same_stream(server, client, reason, code, times):
    server.script = failing_first(server, reason, code, times)
    results = list(client.stream(images(6)))
    assert all(isinstance(result, Cutout) for result in results)
    assert sorted(ids(results)) == sorted(image_id for image_id, _ in images(6))
    assert len(server.received) == 6 * (times + 1)
    assert len(server.stream_configs) == 1


@pytest.mark.parametrize(
    ("reason", "code", "attempts"),
    [("MODEL_UNAVAILABLE", UNAVAILABLE, 10), ("INTERNAL_FAULT", grpc.StatusCode.INTERNAL, 2),
     ("NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION, 1), ("UPLOAD_TIMEOUT", grpc.StatusCode.DEADLINE_EXCEEDED, 1)],
)  # fmt: skip
def test_a_lasting_failure_comes_out_after_its_attempts(server, client, reason, code, attempts):
    server.script = failing_first(server, reason, code, 1000)
    (error,) = client.stream(images(1))
    assert (error.reason, error.image_id) == (reason, "id 0")
    assert len(server.received) == attempts


def test_an_overloaded_server_is_left_alone_for_as_long_as_it_asks(server, client):
    server.script = failing_first(server, "OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, 1, retry_seconds=0.2)
    begun = time.monotonic()
    list(client.stream(images(1)))
    assert time.monotonic() - begun >= 0.2


# Lost streams


def breaking(server, after: int, status):
    """A script that ends the first stream with that status once so many images were answered."""
    answered = 0

    async def script(image):
        nonlocal answered
        if image.stream == 1 and answered >= after:
            return server.end_stream(status)
        answered += 1
        return server.success(image)

    return script


@pytest.mark.parametrize(
    ("reason", "code"),
    [("DRAINING", UNAVAILABLE), ("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED), (None, grpc.StatusCode.CANCELLED),
     (None, grpc.StatusCode.INTERNAL), (None, grpc.StatusCode.UNKNOWN)],
)  # fmt: skip
def test_a_broken_stream_is_replaced_and_only_the_unanswered_are_sent_again(server, client, reason, code):
    server.script = breaking(server, 7, server.status(reason, code))
    results = list(client.stream(images(30)))
    assert sorted(ids(results)) == sorted(image_id for image_id, _ in images(30))
    assert all(isinstance(result, Cutout) for result in results)
    assert len(server.stream_configs) == 2
    first = {image.image_id for image in server.received if image.stream == 1}
    again = {image.image_id for image in server.received if image.stream == 2} & first
    # Eight were in the window when the stream broke; the seven answered before it are not among them.
    assert len(first) - len(again) == 7


def test_an_ordered_stream_stays_ordered_over_a_broken_stream(server, client):
    server.script = breaking(server, 3, server.status("DRAINING", UNAVAILABLE))
    assert ids(list(client.stream(images(20), ordered=True))) == [image_id for image_id, _ in images(20)]


def test_a_killed_server_that_comes_back_costs_no_image(server, client):
    async def script(image):
        await asyncio.sleep(0.002)
        return server.success(image)

    server.script = script
    results = []
    for result in client.stream(images(90)):
        results.append(result)
        if len(results) in {10, 40, 70}:
            server.kill()
            server.start()
    assert sorted(ids(results)) == sorted(image_id for image_id, _ in images(90))
    assert all(isinstance(result, Cutout) for result in results)


def test_a_server_that_ends_the_stream_early_without_an_error_costs_no_image(server, client):
    """As a proxy does when its own time for a stream is over."""
    ended = False

    async def script(image):
        nonlocal ended
        if not ended:
            ended = True
            return server.end_stream(None)
        return server.success(image)

    server.script = script
    assert all(isinstance(result, Cutout) for result in client.stream(images(5)))
    assert len(server.stream_configs) == 2


def test_an_image_whose_streams_keep_breaking_comes_out_after_its_attempts(server, client):
    async def script(image):
        return server.end_stream(server.status("DRAINING", UNAVAILABLE))

    server.script = script
    (error,) = client.stream(images(1))
    assert (error.reason, error.image_id) == ("DRAINING", "id 0")
    assert len(server.received) == 10


def test_the_images_after_a_broken_one_still_work(server, client):
    async def script(image):
        if image.image_id == "id 0":
            return server.end_stream(server.status("DRAINING", UNAVAILABLE))
        return server.success(image)

    server.script = script
    results = list(client.stream(images(4), window=1, ordered=True))
    assert [isinstance(result, Cutout) for result in results] == [False, True, True, True]


def test_a_stream_refused_before_it_took_an_image_counts_as_an_attempt(server, client):
    server.refusal = server.status("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    results = list(client.stream(images(3)))
    assert [result.reason for result in results] == ["OVERLOADED"] * 3


def test_a_stream_that_the_server_refuses_for_good_is_raised(server, client):
    server.refusal = server.status("INVALID_OPTIONS", grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(CutoutError, match="INVALID_OPTIONS"):
        list(client.stream(images(3)))
    assert server.stream_configs == []


def test_the_servers_reason_is_not_lost_when_it_ends_the_stream_in_the_middle_of_an_upload(server, fast_retry):
    server.refusal = server.status("INVALID_OPTIONS", grpc.StatusCode.INVALID_ARGUMENT)
    with Client(server.target, retry=fast_retry) as client:
        for _ in range(20):
            with pytest.raises(CutoutError, match="INVALID_OPTIONS"):
                list(client.stream([b"x" * 3_000_000] * 4))
    assert len(server.tokens) == 20  # one stream each: the reason was clear the first time


def test_what_was_finished_comes_out_before_a_refusal_is_raised(server, client):
    answered = 0

    async def script(image):
        nonlocal answered
        answered += 1
        if answered > 4:
            await asyncio.sleep(0.05)
            return server.end_stream(server.status("PROTOCOL_VIOLATION", grpc.StatusCode.INVALID_ARGUMENT))
        return server.success(image)

    server.script = script
    came_out = []
    with pytest.raises(CutoutError, match="PROTOCOL_VIOLATION"):
        came_out.extend(client.stream(images(8)))
    assert len(came_out) == 4


def test_without_a_server_every_image_comes_out_as_unreachable(server):
    server.kill()
    with Client(server.target, retry=RetryConfig(unreachable_seconds=0.2)) as client:
        results = list(client.stream(images(5), window=5))
    assert sorted(ids(results)) == [f"id {number}" for number in range(5)]
    assert {result.reason for result in results} == {"SERVER_UNREACHABLE"}
    assert "refused" in results[0].message


def test_a_server_that_starts_late_is_waited_for(server, client):
    server.kill()
    threading.Timer(0.3, server.start).start()
    assert all(isinstance(result, Cutout) for result in client.stream(images(5)))


# Time


def test_an_image_without_answer_comes_out_at_its_timeout_and_the_others_go_on(server, client):
    async def script(image):
        return await never(image) if image.image_id == "id 1" else server.success(image)

    server.script = script
    results = {result.image_id: result for result in client.stream(images(4), image_timeout_seconds=0.3)}
    late = results.pop("id 1")
    assert (late.reason, late.code, late.metadata) == (
        "DEADLINE",
        grpc.StatusCode.DEADLINE_EXCEEDED,
        {"timeout_seconds": "0.3"},
    )
    assert all(isinstance(result, Cutout) for result in results.values())


def test_an_answer_after_the_timeout_is_not_a_second_result(server, client):
    async def script(image):
        await asyncio.sleep(0.2 if image.image_id == "id 0" else 0.0)
        return server.success(image)

    def source():
        yield from images(3)
        time.sleep(0.4)
        yield "last", b"x"

    server.script = script
    results = list(client.stream(source(), image_timeout_seconds=0.1))
    assert sorted(ids(results)) == ["id 0", "id 1", "id 2", "last"]
    assert [result.image_id for result in results if isinstance(result, CutoutError)] == ["id 0"]


def test_the_late_answer_of_an_id_is_not_given_to_its_namesake(server, client):
    async def script(image):
        await asyncio.sleep(0.25 if image.data == b"first" else 0.0)
        return server.success(image)

    server.script = script
    pair = [("same", b"first"), ("same", b"second")]
    results = list(client.stream(pair, image_timeout_seconds=0.1, ordered=True))
    assert results[0].reason == "DEADLINE"
    assert isinstance(results[1], CutoutError) or results[1].data == b"dnoces"


def test_the_timeout_of_the_stream_ends_what_is_unanswered(server, client):
    server.script = never
    results = list(client.stream(images(3), timeout_seconds=0.2))
    assert [result.reason for result in results] == ["DEADLINE"] * 3


def test_the_timeout_of_the_stream_is_raised_when_images_were_left_unread(server, client):
    server.script = never
    came_out = []
    with pytest.raises(CutoutError, match="DEADLINE"):
        came_out.extend(client.stream(images(30), window=4, timeout_seconds=0.2))
    assert {result.reason for result in came_out} == {"DEADLINE"}


def test_a_source_that_never_gives_ends_with_the_timeout_of_the_stream(server, client):
    blocked = threading.Event()

    def source():
        blocked.wait()
        yield b""

    with pytest.raises(CutoutError, match="DEADLINE"):
        list(client.stream(source(), timeout_seconds=0.1))
    blocked.set()


# Leaving early


def test_an_early_break_cancels_the_stream_at_the_server(server, client):
    server.script = never
    results = client.stream(images(1), image_timeout_seconds=0.2)
    for _ in results:
        break
    results.close()
    assert eventually(lambda: server.cancelled_streams + server.clean_streams == 1)


def test_an_early_break_in_the_middle_cancels_and_stops_reading(server, client):
    taken = []

    def source():
        for image in images(1000):
            taken.append(image)
            yield image

    for _ in client.stream(source(), window=3):
        break
    assert eventually(lambda: server.cancelled_streams == 1)
    assert len(taken) <= 5


def test_an_early_break_does_not_wait_for_a_blocked_source(server, client):
    blocked = threading.Event()

    def source():
        yield b"x"
        blocked.wait()

    begun = time.monotonic()
    for _ in client.stream(source()):
        break
    assert time.monotonic() - begun < 5
    blocked.set()


def test_an_early_break_ends_the_thread_of_the_source(server, client):
    for _ in client.stream(images(100)):
        break
    assert eventually(lambda: all(thread.name != "cutstream-source" for thread in threading.enumerate()))


def test_a_stream_never_begun_opens_nothing(server, client):
    client.stream(images(3)).close()
    assert server.stream_configs == []
