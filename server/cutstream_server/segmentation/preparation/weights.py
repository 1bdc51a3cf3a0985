"""ONNX files whose weights stay on disk: they are read as references and copied from file to file.

A network of 1 GB would be in memory two or three times over while `onnx.load` and `onnx.save` handle it. Protocol
buffers are a plain sequence of tagged fields, so the large tensors are found by stepping over everything else.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from .errors import UnknownNetworkError
from .record import weights_file
from .references import complete_reference, is_reference, refer, reference_of, without_reference
from .wire import Field, fields, head

LARGE_BYTES = 16 * 1024
"""Tensors from here on stay on disk. Those below hold sizes and axes, which the checks of a graph want to know."""

LARGEST_FILE_BYTES = 2**31 - 2**20
"""Protocol buffers end at 2 GiB: above, the weights go into a second file. Both forms load everywhere."""

_ALIGNMENT = 4096  # a page, so that engines can map the second file into memory
_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def read_network(path: Path) -> ModelProto:
    """Read a network; its large initialisers become references to where they lie, by absolute paths.

    Raises:
        UnknownNetworkError: the file is no ONNX network or cut off, or a file of its weights is missing or cut off.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = _read_model(data, path.resolve())
    except (DecodeError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise UnknownNetworkError(f"{path} is no ONNX network, or one that is cut off: {error}") from error
    if not model.graph.node:
        raise UnknownNetworkError(f"{path} is no ONNX network: it has no graph")
    for tensor in model.graph.initializer:
        if is_reference(tensor):
            complete_reference(tensor, path)
    return model


def write_network(model: ModelProto, target: Path, *, largest_file_bytes: int = LARGEST_FILE_BYTES) -> None:
    """Write a network with the weights that it refers to, in one file if that stays small enough, or else in two.

    The second file is `weights_file(target)`. Equal networks give equal bytes.
    """
    tensors = model.graph.initializer
    if (
        model.ByteSize() + sum(reference_of(tensor).size for tensor in tensors if is_reference(tensor))
        > largest_file_bytes
    ):
        _write_two_files(model, target)
        return
    outer, graph = ModelProto(), GraphProto()
    for message, copy, left_out in ((model, outer, "graph"), (model.graph, graph, "initializer")):
        for field, _ in message.ListFields():
            if field.name != left_out:
                _copy_field(message, copy, field.name)
    descriptions = [without_reference(tensor).SerializeToString(deterministic=True) for tensor in tensors]
    sizes = [_tensor_size(tensor, text) for tensor, text in zip(tensors, descriptions, strict=True)]
    body = graph.SerializeToString(deterministic=True)
    with target.open("wb") as file:
        file.write(outer.SerializeToString(deterministic=True))
        file.write(head(_GRAPH, len(body) + sum(len(head(_INITIALIZER, size)) + size for size in sizes)) + body)
        for tensor, description, size in zip(tensors, descriptions, sizes, strict=True):
            file.write(head(_INITIALIZER, size) + description)
            if is_reference(tensor):
                reference = reference_of(tensor)
                file.write(head(_RAW_DATA, reference.size))
                for block in reference.blocks():
                    file.write(block)


def _read_model(data: mmap.mmap, path: Path) -> ModelProto:
    model = ModelProto()
    for field in fields(data, 0, len(data)):
        if field.number == _GRAPH:
            _read_graph(data, field, path, model.graph)
        else:
            model.MergeFromString(data[field.start : field.end])
    return model


def _read_graph(data: mmap.mmap, whole: Field, path: Path, graph: GraphProto) -> None:
    for field in fields(data, whole.content, whole.end):
        if field.number == _INITIALIZER and field.end - field.content >= LARGE_BYTES:
            _read_tensor(data, field, path, graph.initializer.add())
        else:
            graph.MergeFromString(data[field.start : field.end])


def _read_tensor(data: mmap.mmap, whole: Field, path: Path, tensor: TensorProto) -> None:
    for field in fields(data, whole.content, whole.end):
        if field.number == _RAW_DATA:
            refer(tensor, str(path), field.content, field.end - field.content)
        else:
            tensor.MergeFromString(data[field.start : field.end])


def _tensor_size(tensor: TensorProto, description: bytes) -> int:
    if not is_reference(tensor):
        return len(description)
    size = reference_of(tensor).size
    return len(description) + len(head(_RAW_DATA, size)) + size


def _copy_field(message: ModelProto | GraphProto, copy: ModelProto | GraphProto, name: str) -> None:
    value = getattr(message, name)
    if hasattr(value, "extend"):
        getattr(copy, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(copy, name).CopyFrom(value)
    else:
        setattr(copy, name, value)


def _write_two_files(model: ModelProto, target: Path) -> None:
    data = weights_file(target)
    moved = ModelProto()
    moved.CopyFrom(model)
    with data.open("wb") as file:
        for tensor in moved.graph.initializer:
            if is_reference(tensor):
                file.seek(-file.tell() % _ALIGNMENT, 1)
                reference = reference_of(tensor)
                refer(tensor, data.name, file.tell(), reference.size)
                for block in reference.blocks():
                    file.write(block)
    target.write_bytes(moved.SerializeToString(deterministic=True))
