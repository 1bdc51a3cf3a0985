"""Which failures are tried again, and how long the waits are."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutstream import CutoutError, RetryConfig
from cutstream.retry import Attempts, backoff_seconds

# The table of errors in cutstream.proto.
RETRIED = ["MODEL_UNAVAILABLE", "DRAINING", "OVERLOADED", "INTERNAL_FAULT"]
NOT_RETRIED = [
    "IMAGE_EMPTY", "IMAGE_UNDECODABLE", "UNSUPPORTED_FORMAT", "IMAGE_TOO_LARGE", "INCOMPLETE_IMAGE", "INVALID_OPTIONS",
    "UNKNOWN_MODEL", "OUTPUT_TOO_LARGE", "PROTOCOL_VIOLATION", "NO_OBJECT", "OBJECT_TOO_SMALL", "OBJECT_TOO_LARGE",
    "DEADLINE", "UPLOAD_TIMEOUT",
]  # fmt: skip


def error(reason: str, **more: object) -> CutoutError:
    return CutoutError(reason, "", code=grpc.StatusCode.UNKNOWN, **more)


@pytest.mark.parametrize("reason", [*RETRIED, "CONNECTION_LOST", "SERVER_UNREACHABLE"])
def test_passing_failures_are_retried(reason):
    assert error(reason).retryable
    assert Attempts(RetryConfig()).wait_seconds(error(reason)) is not None


@pytest.mark.parametrize("reason", [*NOT_RETRIED, "SOURCE_UNREADABLE", "UNAUTHENTICATED"])
def test_lasting_failures_are_not_retried(reason):
    assert not error(reason).retryable
    assert Attempts(RetryConfig()).wait_seconds(error(reason)) is None


def test_an_internal_fault_is_retried_once():
    attempts = Attempts(RetryConfig())
    assert attempts.wait_seconds(error("INTERNAL_FAULT")) is not None
    assert attempts.wait_seconds(error("INTERNAL_FAULT")) is None


def test_other_failures_in_between_do_not_renew_the_one_retry_of_an_internal_fault():
    attempts = Attempts(RetryConfig())
    waits = [attempts.wait_seconds(error(r)) for r in ["INTERNAL_FAULT", "DRAINING", "INTERNAL_FAULT"]]
    assert [wait is None for wait in waits] == [False, False, True]


def test_the_number_of_attempts_is_bounded():
    attempts = Attempts(RetryConfig(max_attempts=3))
    waits = [attempts.wait_seconds(error("DRAINING")) for _ in range(3)]
    assert [wait is None for wait in waits] == [False, False, True]


def test_the_wait_is_at_least_what_the_server_asks():
    assert Attempts(RetryConfig()).wait_seconds(error("OVERLOADED", retry_after_seconds=7.5)) >= 7.5


@given(st.integers(1, 200), st.floats(0.01, 1), st.floats(1, 30), st.floats(1, 10))
def test_a_wait_stays_below_the_exponential_and_the_largest_back_off(failures, initial, largest, multiplier):
    config = RetryConfig(initial_backoff_seconds=initial, max_backoff_seconds=largest, backoff_multiplier=multiplier)
    exponential = initial * multiplier ** (failures - 1)
    assert 0 <= backoff_seconds(failures, config) <= min(exponential, largest) * (1 + 1e-9)


def test_waits_are_spread_over_the_whole_back_off():
    config = RetryConfig(initial_backoff_seconds=1, max_backoff_seconds=1)
    waits = [backoff_seconds(1, config) for _ in range(1000)]
    # Uniform on 0..1: the chance that no one of 1000 falls into a given tenth is below 1e-45.
    assert {int(wait * 10) for wait in waits} >= set(range(10))
