"""Tables of ten million texts in a few hundred megabytes, without numpy."""

from __future__ import annotations

import hashlib
from array import array
from typing import Literal

# Above two thirds of full, linear probing takes long ways.
_FULLEST_NUMERATOR, _FULLEST_DENOMINATOR = 2, 3
_FIRST_SLOTS = 1 << 10
_MASK_64 = (1 << 64) - 1


def fingerprint(text: str) -> int:
    """64 bits of the text, never 0, that hold for this process only.

    Among ten million texts, two share one with a probability of 3e-6 (birthday bound).
    """
    return (hash(text) & _MASK_64) or 1


def lasting_fingerprint(text: str) -> int:
    """The same that holds for every process, at twenty times the cost."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


class CompactMap:
    """Whole numbers by fingerprint: open addressing with linear probing, in two flat arrays.

    A pair takes 24 to 48 bytes (`value_type` "Q", 64 bits) or 14 to 27 ("B", 8 bits), in a dictionary some 130; for a
    moment half as much again while the arrays grow. Nothing can be removed.
    """

    def __init__(self, value_type: Literal["Q", "B"]) -> None:
        self._value_type = value_type
        self._count = 0
        self._allocate(_FIRST_SLOTS)

    def __len__(self) -> int:
        return self._count

    def get(self, key: int) -> int | None:
        """The value of a fingerprint, None when there is none."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] else None

    def set(self, key: int, value: int) -> bool:
        """Sets the value of a fingerprint; whether the fingerprint is new."""
        slot = self._slot(key)
        is_new = not self._keys[slot]
        self._keys[slot], self._values[slot] = key, value
        if is_new:
            self._count += 1
            if self._count * _FULLEST_DENOMINATOR > len(self._keys) * _FULLEST_NUMERATOR:
                self._grow()
        return is_new

    def _slot(self, key: int) -> int:
        """Where the key is, or would go."""
        keys, mask = self._keys, len(self._keys) - 1
        slot = key & mask
        while (found := keys[slot]) and found != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._allocate(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value

    def _allocate(self, slots: int) -> None:
        self._keys = array("Q", bytes(8)) * slots
        self._values = array(self._value_type, [0]) * slots
