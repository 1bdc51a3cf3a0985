"""The nodes before a network: from a picture of bytes to the normalised floats that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .interface import Interface

PIXEL_SCALE = 255.0
_REVERSED = np.array([2, 1, 0], np.int64)
_TO_CHANNELS_LAST = [0, 2, 3, 1]


def picture_nodes(
    image: str, picture: str, picture_type: int, interface: Interface
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes that turn `image` into the network's own input, and the constants that they take.

    Args:
        image: name of the served input, uint8 [N, 3, H, W] RGB; what comes between has names that begin with it.
        picture: name of the network's input.
        picture_type: its ONNX type, float32 or float16.
        interface: gives channel order, mean, deviation and layout.
    """
    constants: list[TensorProto] = []

    def constant(role: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(values, f"normalisation/{role}"))
        return constants[-1].name

    # The network's first part of TensorRT may begin at the cast image: configs/gpu.pbtxt names it.
    steps: list[tuple[str, str, list[str], dict[str, Any]]] = [("float", "Cast", [], {"to": TensorProto.FLOAT})]
    if interface.channel_order == "BGR":
        steps.append(("reordered", "Gather", [constant("order", _REVERSED)], {"axis": 1}))
    steps.append(("scaled", "Div", [constant("scale", np.array(PIXEL_SCALE, np.float32))], {}))
    if any(interface.mean):
        steps.append(("centred", "Sub", [constant("mean", _per_channel(interface.mean))], {}))
    if any(value != 1 for value in interface.std):
        steps.append(("normalised", "Div", [constant("deviation", _per_channel(interface.std))], {}))
    if picture_type != TensorProto.FLOAT:
        steps.append(("narrowed", "Cast", [], {"to": picture_type}))
    if interface.layout == "NHWC":
        steps.append(("channels_last", "Transpose", [], {"perm": _TO_CHANNELS_LAST}))
    nodes, tensor = [], image
    for role, operator, others, attributes in steps:
        result = f"{image}/{role}"
        nodes.append(helper.make_node(operator, [tensor, *others], [result], **attributes))
        tensor = result
    nodes[-1].output[0] = picture
    return nodes, constants


def _per_channel(values: Sequence[float]) -> np.ndarray:
    """Return one number where the channels do not differ, else [1, 3, 1, 1]."""
    if len(set(values)) == 1:
        return np.array(values[0], np.float32)
    return np.array(values, np.float32).reshape(1, 3, 1, 1)
