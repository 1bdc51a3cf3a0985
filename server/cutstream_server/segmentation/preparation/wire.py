"""The wire format of protocol buffers, as far as stepping over the fields of a file needs it.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10


@dataclass(frozen=True)
class Field:
    """One field of a message in a file: all of it from `start`, its content from `content`, both to `end`."""

    number: int
    start: int
    content: int
    end: int


def fields(data: mmap.mmap, start: int, stop: int) -> Iterator[Field]:
    """Yield the fields of the message that lies between two offsets.

    Raises:
        DecodeError: there is no such message.
    """
    while start < stop:
        tag, content = _varint(data, start, stop)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, end = _varint(data, content, stop)
        elif wire_type == _LENGTH_DELIMITED:
            size, content = _varint(data, content, stop)
            end = content + size
        elif wire_type in _FIXED_BYTES:
            end = content + _FIXED_BYTES[wire_type]
        else:
            raise DecodeError(f"byte {start} begins no field")
        if not number or end > stop:
            raise DecodeError(f"the field at byte {start} ends at byte {end}, and {stop} are there")
        yield Field(number, start, content, end)
        start = end


def _varint(data: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; return it and the offset behind it."""
    value = 0
    for index in range(start, min(start + _MOST_VARINT_BYTES, stop)):
        value |= (data[index] & 0x7F) << 7 * (index - start)
        if data[index] < 0x80:  # noqa: PLR2004 - the bit that says that another byte follows
            return value, index + 1
    raise DecodeError(f"byte {start} begins no number")


def head(number: int, size: int) -> bytes:
    """Give what stands before a length-delimited field."""
    result = bytearray()
    for value in (number << 3 | _LENGTH_DELIMITED, size):
        rest = value
        while rest > 0x7F:  # noqa: PLR2004 - 7 bits a byte
            result.append(rest & 0x7F | 0x80)
            rest >>= 7
        result.append(rest)
    return bytes(result)
