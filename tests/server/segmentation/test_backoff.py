from hypothesis import given
from hypothesis import strategies as st

from cutstream_server.segmentation.backoff import Backoff


@given(st.integers(0, 40))
def test_a_wait_lies_around_its_doubled_length(attempt):
    backoff = Backoff(first=0.1, most=30)
    delay = [backoff.next_delay() for _ in range(attempt + 1)][-1]
    length = min(30, 0.1 * 2**attempt)
    assert 0.5 * length <= delay <= 1.5 * length


def test_a_reset_begins_with_the_first_wait():
    backoff = Backoff(first=0.1, most=30)
    for _ in range(10):
        backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() <= 0.15


def test_two_servers_do_not_wait_alike():
    assert len({Backoff().next_delay() for _ in range(10)}) > 1
