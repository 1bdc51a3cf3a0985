"""Resizes whose target size is a constant become Resizes to the size of the feature map that they are joined with.

A U-network enlarges a deep feature map to the size of a shallower one and concatenates the two. The published files
hold those sizes as constants for a picture of 1024 x 1024, and only for that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .errors import UnknownNetworkError

# Starts and ends of the slices of a shape [N, C, H, W], by the names of the constants that hold them.
_SLICE_BOUNDS = {"size/0": 0, "size/2": 2, "size/4": 4}
_BATCH_AND_CHANNELS = ("size/0", "size/2")
_HEIGHT_AND_WIDTH = ("size/2", "size/4")


def slice_bounds() -> list[TensorProto]:
    """Return the constants that the nodes added by `with_dynamic_resizes` take."""
    return [numpy_helper.from_array(np.array([value], np.int64), name) for name, value in _SLICE_BOUNDS.items()]


def with_dynamic_resizes(nodes: Sequence[NodeProto], network_input: str) -> list[NodeProto]:
    """Give every Resize the size of the map that it is joined with; the last one, joined with none, the picture's size.

    Args:
        nodes: all nodes that the mask depends on, free of casts between a Resize and its Concat.
        network_input: the name of the float picture [N, 3, H, W].

    Returns:
        The same nodes in the same order with the computation of each size before its Resize; the old computations stay.

    Raises:
        UnknownNetworkError: a Resize is joined with no or several other maps, or several Resizes are joined with none.
    """
    joined_by = {name: node for node in nodes if node.op_type == "Concat" for name in node.input}
    resized = {node.output[0] for node in nodes if node.op_type == "Resize"}
    result: list[NodeProto] = []
    unjoined = 0
    for node in nodes:
        if node.op_type != "Resize":
            result.append(node)
            continue
        concat = joined_by.get(node.output[0])
        partners = [name for name in concat.input if name not in resized] if concat else [network_input]
        unjoined += concat is None
        if len(partners) != 1 or unjoined > 1:
            raise UnknownNetworkError(f"cannot tell which map the Resize {node.name!r} has to match in size")
        result += _resize_like(node, partners[0])
    return result


def _resize_like(resize: NodeProto, partner: str) -> list[NodeProto]:
    """Return nodes that resize to `partner`'s height and width and keep the batch and the channels of the input."""
    source, result = resize.input[0], resize.output[0]
    own, other, sizes = (f"{result}/{part}" for part in ("own_size", "partner_size", "sizes"))
    replaced = NodeProto()
    replaced.CopyFrom(resize)
    replaced.input[:] = [source, "", "", sizes]
    # Slice, and not the start and end attributes of Shape, which are newer than opset 11: every engine knows it.
    return [
        helper.make_node("Shape", [source], [f"{own}/all"]),
        helper.make_node("Slice", [f"{own}/all", *_BATCH_AND_CHANNELS], [own]),
        helper.make_node("Shape", [partner], [f"{other}/all"]),
        helper.make_node("Slice", [f"{other}/all", *_HEIGHT_AND_WIDTH], [other]),
        helper.make_node("Concat", [own, other], [sizes], axis=0),
        replaced,
    ]
