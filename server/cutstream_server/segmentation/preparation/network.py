"""Graph surgery: a published IS-Net ONNX file becomes the network that Triton serves.

The published files take one normalised float picture of 1024 x 1024 and give the mask and eleven by-products. The
served network takes `image`, uint8 [N, 3, H, W] RGB, and gives `alpha`, float32 [N, 1, H, W] in 0..1, for any N and for
H and W from 32 on (the network halves the picture five times).

Both published forms, with float32 weights and with float16 weights among casts, take the same path:

1. everything is float32; casts and identities are gone;
2. each Resize takes its size from the map that it is joined with (`resizing.py`);
3. only what the mask needs is kept, in topological order;
4. cast and normalisation are put before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .errors import UnknownNetworkError
from .resizing import slice_bounds, with_dynamic_resizes

# Counted up when the surgery changes, so that an older build counts as stale.
RECIPE = 1

INPUT_NAME = "image"
OUTPUT_NAME = "alpha"
CHANNELS = 3

# Of 2022 (ONNX 1.12), so that engines need not be new; the highest opset that still has the Resize of 13.
OPSET = 17
IR_VERSION = 8
# These mean the same in every opset from 11 to 17 for float tensors, so the opset is set without converting anything.
# Upsample went in 10, Resize took other inputs in 11 and got new attributes in 18.
OLDEST_OPSET = 11
STABLE_OPERATORS = frozenset({"Add", "BatchNormalization", "Concat", "Conv", "MaxPool", "Relu", "Resize", "Sigmoid"})
_ADDED_OPERATORS = frozenset({"Shape", "Slice"})

# The network was trained (github.com/xuebinqin/DIS) on x / 255 with mean 0.5 and standard deviation 1. Dividing by the
# picture's own maximum instead, as some callers do, is left out: the answer would hang on the single brightest pixel,
# and the pictures of one batch would depend on each other.
PIXEL_SCALE = 255.0
PIXEL_MEAN = 0.5
_SCALE_NAME = "normalisation/scale"
_MEAN_NAME = "normalisation/mean"

# Symbolic names, the same on both sides, say that these dimensions are free and equal in the picture and the mask.
_BATCH, _HEIGHT, _WIDTH = "N", "H", "W"
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})


def prepare_network(source: ModelProto, provenance: Mapping[str, str]) -> ModelProto:
    """Turn a published IS-Net into the served network; the source is left as it is.

    Args:
        source: a model with one float input [1, 3, H, W] in -0.5..0.5 whose first output is the mask after its sigmoid,
            [1, 1, H, W]. Weights may be float16, nodes may be in any order, sizes may be constants.
        provenance: written into the model's `metadata_props` (source, hash, licence).

    Returns:
        The network with input `image` uint8 [N, 3, H, W] and output `alpha` float32 [N, 1, H, W]. Equal arguments give
        equal bytes.

    Raises:
        UnknownNetworkError: the source has operators, an opset or a structure that this surgery does not know.
    """
    _require_known_opset(source)
    weights = _float32_constants(source.graph)
    inputs = [value.name for value in source.graph.input if value.name not in weights]
    if len(inputs) != 1 or not source.graph.output:
        raise UnknownNetworkError(f"expected a network with one input and a mask, found the inputs {inputs}")
    nodes, mask = _without_casts(source.graph)
    # By-products go first, so that they cannot confuse the search for a Resize's partner; then the old sizes go.
    nodes = with_dynamic_resizes(_needed_in_order(nodes, mask), inputs[0])
    nodes = _renamed(_needed_in_order(nodes, mask), mask, OUTPUT_NAME)
    _require_stable_operators(nodes)
    nodes = [*_normalisation(inputs[0]), *nodes]
    constants = {tensor.name: tensor for tensor in (*weights.values(), *slice_bounds(), *_normalisation_constants())}
    used = dict.fromkeys(name for node in nodes for name in node.input)
    graph = helper.make_graph(
        nodes,
        "isnet",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [_BATCH, CHANNELS, _HEIGHT, _WIDTH])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [_BATCH, 1, _HEIGHT, _WIDTH])],
        [constants[name] for name in used if name in constants],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="cutstream")
    helper.set_model_props(model, dict(provenance))
    _require_consistent(model)
    return model


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
    return {name: _float32(tensor, name) for name, tensor in constants.items()}


def _float32(tensor: TensorProto, name: str) -> TensorProto:
    array = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(array.astype(np.float32) if tensor.data_type == TensorProto.FLOAT16 else array, name)


def _without_casts(graph: GraphProto) -> tuple[list[NodeProto], str]:
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
    return nodes, origin(graph.output[0].name)


def _passes_through(node: NodeProto) -> bool:
    """Tell whether the node hands its input on unchanged once every float is a float32.

    A cast of integers to floats would pass for one of floats; `_require_consistent` refuses what comes of that.
    """
    if node.op_type == "Cast":
        return any(attribute.name == "to" and attribute.i in _FLOATS for attribute in node.attribute)
    return node.op_type == "Identity"


def _needed_in_order(nodes: Sequence[NodeProto], mask: str) -> list[NodeProto]:
    """Return the nodes that the mask depends on, each after those that it takes from."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    if mask not in producer:
        raise UnknownNetworkError(f"no node of the network makes its first output, {mask!r}")
    dependencies: dict[int, list[int]] = {}
    pending = [producer[mask]]
    while pending:
        index = pending.pop()
        if index not in dependencies:
            dependencies[index] = [producer[name] for name in nodes[index].input if name in producer]
            pending += dependencies[index]
    try:
        return [nodes[index] for index in TopologicalSorter(dependencies).static_order()]
    except CycleError as error:
        raise UnknownNetworkError("the nodes of the network depend on each other in a circle") from error


def _renamed(nodes: Iterable[NodeProto], old: str, new: str) -> list[NodeProto]:
    """Return the nodes, which are copies and are changed in place, with one tensor renamed."""
    renamed = list(nodes)
    for node in renamed:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return renamed


def _require_stable_operators(nodes: Iterable[NodeProto]) -> None:
    known = STABLE_OPERATORS | _ADDED_OPERATORS
    unknown = sorted({node.op_type for node in nodes if node.domain or node.op_type not in known})
    if unknown:
        raise UnknownNetworkError(f"the network has operators that this build does not know: {', '.join(unknown)}")


def _normalisation(result: str) -> list[NodeProto]:
    """Return the nodes that turn the uint8 `image` into the network's float picture, the tensor `result`."""
    as_float, scaled = f"{INPUT_NAME}/float", f"{INPUT_NAME}/scaled"
    return [
        helper.make_node("Cast", [INPUT_NAME], [as_float], to=TensorProto.FLOAT),
        helper.make_node("Div", [as_float, _SCALE_NAME], [scaled]),
        helper.make_node("Sub", [scaled, _MEAN_NAME], [result]),
    ]


def _normalisation_constants() -> list[TensorProto]:
    values = {_SCALE_NAME: PIXEL_SCALE, _MEAN_NAME: PIXEL_MEAN}
    return [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()]


def _require_consistent(model: ModelProto) -> None:
    """Raise when a type, a shape or an attribute of the result does not fit: the source was not what it seemed."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnknownNetworkError(f"the network does not fit the surgery: {error}") from error
