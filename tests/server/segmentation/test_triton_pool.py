import itertools
from types import SimpleNamespace

import pytest

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation import triton_pool
from cutstream_server.segmentation.triton_pool import TritonPool


@pytest.fixture
def clock(monkeypatch):
    """The time that the pool sees; random waits have their mean length."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(triton_pool.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr("cutstream_server.segmentation.backoff.random.uniform", lambda low, high: (low + high) / 2)
    return now


@pytest.fixture
def pool(clock):
    members = TritonPool()
    for url in ("a", "b", "c"):
        members.add(url)
    return members


def begin(pool):
    url = pool.next_url()
    pool.begin(url)
    return url


def test_equals_take_turns(pool):
    assert [pool.next_url() for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_the_one_with_the_fewest_calls_under_way_is_next(pool):
    assert [begin(pool) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    pool.end("b")
    assert begin(pool) == "b"


def test_a_slow_one_gets_as_many_calls_as_it_answers(pool):
    # In each step four calls begin, b answers one and the others all that they have.
    taken = []
    for _ in range(30):
        began = [begin(pool) for _ in range(4)]
        taken += began
        for url in began:
            if url != "b":
                pool.end(url)
        pool.end("b")
    assert taken.count("b") <= 30 + 4
    assert taken.count("a") > 1.2 * taken.count("b")


def test_a_failed_one_takes_no_calls_until_its_pause_is_over(pool, clock):
    pool.note_failure("b")
    assert [pool.next_url() for _ in range(4)] == ["a", "c", "a", "c"]
    clock.seconds += 0.51
    assert "b" in {pool.next_url() for _ in range(3)}


def test_pauses_double_with_each_failure_in_a_row_up_to_ten_seconds(pool, clock):
    pauses = []
    for _ in range(7):
        pool.note_failure("b")
        started = clock.seconds
        while "b" not in {pool.next_url() for _ in range(3)}:
            clock.seconds += 0.25
        pauses.append(clock.seconds - started)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]


def test_an_answer_ends_the_pause_and_makes_the_next_one_short(pool, clock):
    for _ in range(3):
        pool.note_failure("b")
        clock.seconds += 20
    pool.note_failure("b")
    pool.note_answer("b")
    assert "b" in {pool.next_url() for _ in range(3)}
    pool.note_failure("b")
    clock.seconds += 0.51
    assert "b" in {pool.next_url() for _ in range(3)}


def test_the_failures_of_calls_that_began_together_count_as_one(pool, clock):
    for _ in range(20):
        pool.note_failure("b")
    clock.seconds += 0.51
    assert "b" in {pool.next_url() for _ in range(3)}


def test_when_all_have_failed_the_one_whose_pause_ends_first_is_asked(pool, clock):
    for url in ("c", "a", "b"):
        pool.note_failure(url)
        clock.seconds += 0.1
    assert pool.next_url() == "c"


def test_one_that_came_back_begins_without_calls(pool):
    for _ in range(6):
        begin(pool)
    pool.remove("b")
    pool.add("b")
    # Of the life before.
    pool.end("b")
    assert [begin(pool), begin(pool)] == ["b", "b"]


def test_an_empty_pool_has_nobody_for_a_call(clock):
    with pytest.raises(ModelUnavailableError):
        TritonPool().next_url()


def test_calls_of_one_that_is_gone_are_not_counted(pool):
    pool.remove("b")
    for note in (pool.begin, pool.end, pool.note_answer, pool.note_failure):
        note("b")
    assert sorted(itertools.chain([pool.next_url()], [pool.next_url()])) == ["a", "c"]
