"""Damaged images and requests, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cutstream.v1 import cutstream_pb2 as pb

MOST_FLIPS: Final = 16
MOST_SPLICED_BYTES: Final = 512
# Where headers are: damage there leads further than noise in the pixels.
HEADER_BYTES: Final = 120
NUMBERS: Final = (0, 1, -1, 2, 0.5, 7, 255, 518, 4096, 4097, 65_536, 2**31 - 1, 1e-300, 1e300, float("nan"))
"""Field values at the edges of ranges and of types; infinity is made of 1e300 by multiplication."""
WORDS: Final = ("", "tiny", "isnet", "trellis", "#ff0000", "#FF", "a" * 300, "ä\0\n", "../..", "image/png")
MOST_FIELDS: Final = 6
RIGHT_SHARE: Final = 0.85
RIGHT_VALUES: Final[dict[int, tuple[Any, ...]]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, 0.5, 1.0),
    FieldDescriptor.CPPTYPE_INT32: (1, 5, 8),
    FieldDescriptor.CPPTYPE_INT64: (0, 60),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2),
    FieldDescriptor.CPPTYPE_STRING: ("tiny", ""),
}


def damaged_images(files: Sequence[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Give files with flipped bits, cut off, or with pieces of themselves and of each other in them."""
    choose = random.Random(seed)
    for _ in range(count):
        yield _damage(choose, choose.choice(files), files)


def _damage(choose: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    match choose.randrange(5):
        case 0:
            return _flip(choose, data)
        case 1:
            return data[: choose.randrange(len(data))]
        case 2:
            return _splice(choose, data, data)
        case 3:
            return _splice(choose, data, choose.choice(others))
        case _:
            return _flip(choose, _splice(choose, data, choose.choice(others)))


def _flip(choose: random.Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(choose.randint(1, MOST_FLIPS)):
        end = min(len(data), HEADER_BYTES) if choose.random() < 0.5 else len(data)
        flipped[choose.randrange(end)] ^= 1 << choose.randrange(8)
    return bytes(flipped)


def _splice(choose: random.Random, data: bytes, other: bytes) -> bytes:
    """Put a piece of the other file into the file: between its bytes, or over them."""
    size = choose.randint(1, min(MOST_SPLICED_BYTES, len(other)))
    start, at = choose.randrange(len(other) - size + 1), choose.randrange(len(data))
    over = size if choose.random() < 0.5 else 0
    return data[:at] + other[start : start + size] + data[at + over :]


def random_options(choose: random.Random) -> pb.RemovalOptions:
    """Set some fields to values inside and outside their ranges."""
    options = pb.RemovalOptions()
    fields = list(options.DESCRIPTOR.fields)
    for field in choose.sample(fields, choose.randint(0, MOST_FIELDS)):
        _set(choose, options, field)
    return options


def _set(choose: random.Random, message: Message, field: FieldDescriptor) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend(_value(choose, field) for _ in range(choose.randint(0, 7)))
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        for part in field.message_type.fields:
            _set(choose, inner, part)
    else:
        setattr(message, field.name, _value(choose, field))


def _value(choose: random.Random, field: FieldDescriptor) -> Any:
    # One wrong option hides all others: most must be right.
    if choose.random() < RIGHT_SHARE and field.cpp_type in RIGHT_VALUES:
        return choose.choice(RIGHT_VALUES[field.cpp_type])
    number = choose.choice(NUMBERS)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return choose.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return choose.choice((*field.enum_type.values_by_number, 77, -1))
        case FieldDescriptor.CPPTYPE_STRING:
            return choose.choice(WORDS)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return number * choose.choice((1, -1, 1e300))
        case _:
            return int(number) if abs(number) <= 2**31 else 0


def damaged_message(choose: random.Random, message: Message) -> bytes:
    """Serialize a message, and damage every other one."""
    data = message.SerializeToString()
    return data if not data or choose.random() < 0.5 else _damage(choose, data, [data])


def random_request(choose: random.Random, images: Sequence[bytes]) -> pb.RemoveBackgroundRequest:
    """Make a request of a unary call."""
    return pb.RemoveBackgroundRequest(
        image_id=choose.choice(WORDS), image=choose.choice((b"", *images)), options=random_options(choose)
    )


def random_stream(choose: random.Random, images: Sequence[bytes]) -> list[pb.StreamRemoveBackgroundRequest]:
    """Make the messages of a stream: most begin with a config, most chunks belong to an image."""
    config = pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=random_options(choose)))
    messages = [config] if choose.random() < 0.9 else []
    for number in range(choose.randint(0, 4)):
        data = choose.choice(images)
        cut = choose.randint(0, len(data))
        for last, part in ((False, data[:cut]), (True, data[cut:])):
            chunk = pb.ImageChunk(image_id=choose.choice((str(number), "x", "")), data=part, last=last)
            if choose.random() < 0.5:
                chunk.size_bytes = choose.choice((len(data), len(data), 0, -1, 2**40))
            if choose.random() < 0.2:
                chunk.options.CopyFrom(random_options(choose))
            messages.append(pb.StreamRemoveBackgroundRequest(chunk=chunk))
    if choose.random() < 0.1:
        messages.append(choose.choice((config, pb.StreamRemoveBackgroundRequest())))
    return messages
