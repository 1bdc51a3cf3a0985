"""The nodes behind a network: from its output to alpha in 0..1."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .interface import Interface

STRETCHED_FROM_SHARE = 0.5
"""Share of the nominal range that an output must cover to be stretched to its own extremes. What covers less shows
nothing that is sure: stretched, a picture without an object would become a mask of noise."""

_TO_CHANNELS_FIRST = [0, 3, 1, 2]
_RANK_WITHOUT_CHANNELS = 3
_OPSET_OF_AXES_AS_INPUT = 13  # Unsqueeze has its axes as an attribute before


def alpha_nodes(
    mask: ValueInfoProto, alpha: str, interface: Interface, opset: int
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes that turn the network's output into `alpha`, and the constants that they take.

    Args:
        mask: the output; it may be float16, without a dimension for channels, or with channels last.
        alpha: name of the served output, float32 [N, 1, H, W]; what comes between has names that begin with it.
        interface: gives activation and layout.
        opset: of the network.

    Returns:
        No nodes where the output is alpha already.
    """
    chain = _Chain(mask.name, alpha)
    if len(mask.type.tensor_type.shape.dim) == _RANK_WITHOUT_CHANNELS:
        if opset < _OPSET_OF_AXES_AS_INPUT:
            chain.append("Unsqueeze", axes=[1])
        else:
            chain.append("Unsqueeze", chain.constant("channel_axis", np.array([1], np.int64)))
    elif interface.layout == "NHWC":
        chain.append("Transpose", perm=_TO_CHANNELS_FIRST)
    if mask.type.tensor_type.elem_type != TensorProto.FLOAT:
        chain.append("Cast", to=TensorProto.FLOAT)
    if interface.activation == "sigmoid":
        chain.append("Sigmoid")
    elif interface.output_range is not None:
        _stretch(chain, *interface.output_range)
    return chain.finished()


def _stretch(chain: _Chain, low: float, high: float) -> None:
    """Map the output's own extremes to 0 and 1, or its nominal range where the extremes are close to each other.

    Extremes come from pooling over whole pictures: it means the same in every opset, and keeps the pictures of a batch
    apart.
    """
    raw = chain.tensor
    least = chain.add("Neg", chain.add("GlobalMaxPool", chain.add("Neg", raw)))
    spread = chain.add("Sub", chain.add("GlobalMaxPool", raw), least)
    enough = chain.constant("enough", np.array(STRETCHED_FROM_SHARE * (high - low), np.float32))
    nominal_low = chain.constant("low", np.array(low, np.float32))
    nominal_spread = chain.constant("spread", np.array(high - low, np.float32))
    wide = chain.add("Greater", spread, enough)
    start = chain.add("Where", wide, least, nominal_low)
    width = chain.add("Where", wide, spread, nominal_spread)
    share = chain.add("Div", chain.add("Sub", raw, start), width)
    bounds = (chain.constant(name, np.array(value, np.float32)) for name, value in (("zero", 0), ("one", 1)))
    chain.tensor = chain.add("Clip", share, *bounds)


class _Chain:
    """Nodes that are made one after the other, and the tensor that the last one makes."""

    def __init__(self, tensor: str, alpha: str) -> None:
        self.tensor = tensor
        self._alpha = alpha
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def append(self, operator: str, *others: str, **attributes: Any) -> None:
        """Add a node that goes on from the last one."""
        self.tensor = self.add(operator, self.tensor, *others, **attributes)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of what it makes."""
        result = f"{self._alpha}/{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    def constant(self, role: str, values: np.ndarray) -> str:
        """Add a constant and return its name."""
        self._constants.append(numpy_helper.from_array(values, f"activation/{role}"))
        return self._constants[-1].name

    def finished(self) -> tuple[list[NodeProto], list[TensorProto]]:
        """Return all of it, the last node making alpha."""
        if self._nodes:
            self._nodes[-1].output[0] = self._alpha
        return self._nodes, self._constants
