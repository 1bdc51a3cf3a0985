"""Tensors whose content stays in a file: where it lies, in the terms of ONNX's external data, and how it is read.

`external_data` holds the key `widened` beside ONNX's own where float16 in the file stands for float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, numpy_helper

from .errors import UnknownNetworkError

_COPIED_AT_ONCE = 1 << 20
_WIDENED = "widened"


@dataclass(frozen=True)
class Reference:
    """Bytes in a file; widened, each float16 of them is read as a float32."""

    path: Path
    offset: int
    stored: int
    widened: bool

    @property
    def size(self) -> int:
        """The bytes that are read."""
        return self.stored * 2 if self.widened else self.stored

    def blocks(self) -> Iterator[bytes]:
        """Read the bytes, not many at once."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            left = self.stored
            while left:
                block = file.read(min(left, _COPIED_AT_ONCE))
                if not block:
                    raise UnknownNetworkError(f"{self.path} became shorter while it was read")
                left -= len(block)
                yield np.frombuffer(block, np.float16).astype(np.float32).tobytes() if self.widened else block


def is_reference(tensor: TensorProto) -> bool:
    """Tell whether the tensor's content lies in a file."""
    return tensor.data_location == TensorProto.EXTERNAL


def reference_of(tensor: TensorProto) -> Reference:
    """Return where a tensor's content lies."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Reference(Path(entries["location"]), int(entries["offset"]), int(entries["length"]), _WIDENED in entries)


def refer(tensor: TensorProto, location: str, offset: int, size: int) -> None:
    """Make a tensor say where its content lies."""
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)


def widened(tensor: TensorProto, name: str) -> TensorProto:
    """Return the tensor under a name, float16 as float32, which is exact; what stays in a file is widened when read."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    if tensor.data_type != TensorProto.FLOAT16:
        return copy
    if not is_reference(tensor):
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name)
    copy.data_type = TensorProto.FLOAT
    copy.external_data.add(key=_WIDENED, value=_WIDENED)
    return copy


def without_reference(tensor: TensorProto) -> TensorProto:
    """Return a tensor without its content if that lies in a file, and as it is otherwise."""
    if not is_reference(tensor):
        return tensor
    description = TensorProto()
    description.CopyFrom(tensor)
    description.ClearField("external_data")
    description.ClearField("data_location")
    return description


def complete_reference(tensor: TensorProto, network: Path) -> None:
    """Make a reference that the network's file brought absolute, and give it its offset and length.

    Raises:
        UnknownNetworkError: the file is missing, cut off, or not beside the network.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    folder = network.resolve().parent
    path = (folder / entries.get("location", "")).resolve()
    if not path.is_relative_to(folder):
        raise UnknownNetworkError(f"the weights {tensor.name!r} lie outside the network's folder, at {path}")
    if not path.is_file():
        raise UnknownNetworkError(f"{network} keeps its weights in {path.name}, which is not beside it")
    offset = int(entries.get("offset", 0))
    size = int(entries.get("length", path.stat().st_size - offset))
    if offset < 0 or size < 0 or offset + size > path.stat().st_size:
        raise UnknownNetworkError(f"{path} is cut off: the weights {tensor.name!r} end at byte {offset + size}")
    refer(tensor, str(path), offset, size)
