"""The table of fingerprints agrees with a dictionary and stays small."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutstream.bulk.compact import CompactMap, fingerprint

# Few low bits, so that many keys want one slot.
KEYS = st.integers(1, 40).map(lambda number: number << 12 | 1) | st.integers(1, 2**64 - 1)


@given(st.lists(st.tuples(KEYS, st.integers(0, 255))))
def test_it_holds_what_a_dictionary_holds(pairs):
    table, expected = CompactMap("B"), {}
    for key, value in pairs:
        assert table.set(key, value) == (key not in expected)
        expected[key] = value
    assert {key: table.get(key) for key in expected} == expected
    assert len(table) == len(expected)


def test_it_holds_everything_while_it_grows():
    table = CompactMap("Q")
    for number in range(1, 5000):
        table.set(fingerprint(str(number)), number)
    assert all(table.get(fingerprint(str(number))) == number for number in range(1, 5000))


def test_what_was_never_set_is_not_there():
    assert CompactMap("Q").get(5) is None


@pytest.mark.parametrize(("value_type", "bytes_per_slot"), [("Q", 16), ("B", 9)])
def test_an_entry_takes_at_most_three_slots(value_type, bytes_per_slot):
    tracemalloc.start()
    table = CompactMap(value_type)
    before = tracemalloc.get_traced_memory()[0]
    count = 20_000
    for number in range(count):
        table.set(fingerprint(str(number)), 1)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken < count * 3 * bytes_per_slot


def test_fingerprints_are_never_0_and_the_same_for_the_same_text():
    assert fingerprint("") != 0
    assert fingerprint("a/b.jpg") == fingerprint("a" + "/b.jpg")
