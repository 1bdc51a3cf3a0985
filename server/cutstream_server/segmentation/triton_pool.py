"""Which of several Tritons takes the next call: the one with the fewest under way, of those whose circuit is closed.

GPUs of a pool differ, and so do images: turns would fill the queue of the slowest. A Triton that refuses connections
answers fastest of all, with errors, and would draw all calls; so a failure opens its circuit for a while, longer with
each failure in a row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.backoff import Backoff

_FIRST_PAUSE_SECONDS = 0.5
"""In which the watch over a Triton, which asks it right away, finds out that it is dead."""
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass
class _Member:
    under_way: int = 0
    closed_at: float = 0.0
    """When its circuit closes, or closed, of the monotonic clock."""
    pauses: Backoff = field(default_factory=lambda: Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))


class TritonPool:
    """The Tritons that answer, by address."""

    def __init__(self) -> None:
        # In the order of use, so that equals take turns.
        self._members: dict[str, _Member] = {}

    def __len__(self) -> int:
        return len(self._members)

    def add(self, url: str) -> None:
        """Takes in a Triton that has answered."""
        self._members[url] = _Member()

    def remove(self, url: str) -> None:
        """Leaves out one that answers no more."""
        del self._members[url]

    def clear(self) -> None:
        """Leaves out all."""
        self._members.clear()

    def next_url(self) -> str:
        """Gives the address for the next call; with all circuits open, the one that closes first.

        Raises:
            ModelUnavailableError: there is none.
        """
        if not self._members:
            raise ModelUnavailableError("no Triton answers now")
        now = time.monotonic()
        url = min(self._members, key=lambda url: self._rank(self._members[url], now))
        self._members[url] = self._members.pop(url)
        return url

    def begin(self, url: str) -> None:
        """Counts a call."""
        if url in self._members:
            self._members[url].under_way += 1

    def end(self, url: str) -> None:
        """Counts its end, however it ended."""
        # It may have been taken out and in again meanwhile.
        if url in self._members and self._members[url].under_way:
            self._members[url].under_way -= 1

    def note_answer(self, url: str) -> None:
        """Closes the circuit."""
        if url in self._members:
            self._members[url].closed_at = 0.0
            self._members[url].pauses.reset()

    def note_failure(self, url: str) -> None:
        """Opens the circuit for a while; the failures of calls that began together count as one."""
        now = time.monotonic()
        if url in self._members and self._members[url].closed_at <= now:
            self._members[url].closed_at = now + self._members[url].pauses.next_delay()

    @staticmethod
    def _rank(member: _Member, now: float) -> tuple[float, int]:
        return max(0.0, member.closed_at - now), member.under_way
