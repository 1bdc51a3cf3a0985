"""Frees a U-network from the one size that its file fixes, and from casts and float16 on the way.

A U-network enlarges a deep feature map to the size of a shallower one and concatenates the two. Exporters of that time
hold the sizes as constants, so that the file runs for one side alone. What is known here are networks of convolutions,
such as IS-Net with float32 weights and with float16 weights among casts, which take the same path:

1. everything is float32; casts and identities are gone;
2. each Resize takes its size from the map that it is joined with (`resizing.py`);
3. only what the mask needs is kept, in topological order.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from .errors import UnknownNetworkError
from .graph import chosen_output, needed_in_order, only_input
from .references import widened
from .resizing import slice_bounds, with_dynamic_resizes

# Of 2022 (ONNX 1.12), so that engines need not be new; the highest opset that still has the Resize of 13.
OPSET = 17
IR_VERSION = 8
# These mean the same in every opset from 11 to 17 for float tensors, so the opset is set without converting anything.
# Upsample went in 10, Resize took other inputs in 11 and got new attributes in 18.
OLDEST_OPSET = 11
STABLE_OPERATORS = frozenset({"Add", "BatchNormalization", "Concat", "Conv", "MaxPool", "Relu", "Resize", "Sigmoid"})
_ADDED_OPERATORS = frozenset({"Shape", "Slice"})
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})


def free_of_sizes(source: ModelProto, output: int | str) -> ModelProto:
    """Return a network of float32 alone that takes every size, with one output; the source is left as it is.

    Args:
        source: a model with one float input [1, 3, H, W]. Weights may be float16, nodes may be in any order, sizes may
            be constants.
        output: which output is kept.

    Raises:
        UnknownNetworkError: the source has operators, an opset or a structure that this surgery does not know.
    """
    _require_known_opset(source)
    picture, mask_value = only_input(source.graph), chosen_output(source.graph, output)
    weights = _float32_constants(source.graph)
    nodes, mask = _without_casts(source.graph, mask_value.name)
    # By-products go first, so that they cannot confuse the search for a Resize's partner; then the old sizes go.
    nodes = with_dynamic_resizes(needed_in_order(nodes, mask), picture.name)
    nodes = needed_in_order(nodes, mask)
    _require_stable_operators(nodes)
    constants = {tensor.name: tensor for tensor in (*weights.values(), *slice_bounds())}
    used = dict.fromkeys(name for node in nodes for name in node.input)
    result = ModelProto(ir_version=IR_VERSION)
    result.opset_import.add(domain="", version=OPSET)
    result.graph.name = source.graph.name
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(constants[name] for name in used if name in constants)
    # Symbolic names, the same on both sides, say that these dimensions are free and equal in the picture and the mask.
    result.graph.input.append(helper.make_tensor_value_info(picture.name, TensorProto.FLOAT, ["N", 3, "H", "W"]))
    result.graph.output.append(helper.make_tensor_value_info(mask, TensorProto.FLOAT, ["N", 1, "H", "W"]))
    return result


def _require_known_opset(source: ModelProto) -> None:
    """Raise when the source's operators may mean something else than they do in `OPSET`."""
    version = next((entry.version for entry in source.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not OLDEST_OPSET <= version <= OPSET:
        raise UnknownNetworkError(f"the network has opset {version}; {OLDEST_OPSET} to {OPSET} are known")


def _float32_constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return initialisers and values of Constant nodes by name; float16 ones are widened to float32, which is exact."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], value.t) for value in node.attribute if value.name == "value")
    return {name: widened(tensor, name) for name, tensor in constants.items()}


def _without_casts(graph: GraphProto, mask: str) -> tuple[list[NodeProto], str]:
    """Return copies of the nodes, wired past casts between floats and past identities, and the name of the mask."""
    origin_of = {node.output[0]: node.input[0] for node in graph.node if _passes_through(node)}

    def origin(name: str) -> str:
        while name in origin_of:
            name = origin_of[name]
        return name

    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" or node.output[0] in origin_of:
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("doc_string")  # exporters put stack traces there, megabytes of them
        copy.input[:] = [origin(name) for name in node.input]
        nodes.append(copy)
    return nodes, origin(mask)


def _passes_through(node: NodeProto) -> bool:
    """Tell whether the node hands its input on unchanged once every float is a float32.

    A cast of integers to floats would pass for one of floats; the check of the network refuses what comes of it.
    """
    if node.op_type == "Cast":
        return any(attribute.name == "to" and attribute.i in _FLOATS for attribute in node.attribute)
    return node.op_type == "Identity"


def _require_stable_operators(nodes: Iterable[NodeProto]) -> None:
    known = STABLE_OPERATORS | _ADDED_OPERATORS
    unknown = sorted({node.op_type for node in nodes if node.domain or node.op_type not in known})
    if unknown:
        raise UnknownNetworkError(f"the network has operators that this build does not know: {', '.join(unknown)}")
