"""Puts a published network into the interface that Triton serves, whatever its own is.

The served network takes `image`, uint8 [N, 3, H, W] RGB, and gives `alpha`, float32 [N, 1, H, W] in 0..1. What lies
between that and the network's own input and output is added to its graph: cast, channel order, normalisation and layout
before it, layout and activation behind it. Its own nodes and weights stay as they are, unless the registry asks for
`resizes_follow_maps` (`free_sizes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from .activation import alpha_nodes
from .errors import UnknownNetworkError
from .free_sizes import free_of_sizes
from .graph import all_nodes, chosen_output, inputs_of, needed_in_order, only_input, rename_tensors
from .interface import Interface
from .normalisation import picture_nodes
from .references import is_reference

# Counted up when the surgery changes, so that an older build counts as stale.
RECIPE = 2

INPUT_NAME = "image"
OUTPUT_NAME = "alpha"
CHANNELS = 3
MASK_RANKS = (3, 4)

_PICTURE_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16)
# `com.microsoft` has operators that ONNX Runtime's optimiser writes and OpenVINO reads.
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_BATCH, _HEIGHT, _WIDTH = "N", "H", "W"
Dimension = int | str


def prepare_network(source: ModelProto, interface: Interface, provenance: Mapping[str, str]) -> ModelProto:
    """Turn a published network into the served one; the source is left as it is.

    Args:
        source: a network with one picture as its input, as `read_network` gives it.
        interface: what the network takes and gives.
        provenance: written into the model's `metadata_props` (source, hash, licence).

    Returns:
        The network with input `image` uint8 [N, 3, H, W] and output `alpha` float32 [N, 1, H, W]. N is 1 where the
        network fixes it so; H and W are free with `other_sides`, else the side. Equal arguments give equal bytes.

    Raises:
        UnknownNetworkError: the source is not as the interface says, or has operators that no engine here knows.
    """
    _require_known_operators(source)
    output = interface.output
    if interface.resizes_follow_maps:
        model, output = free_of_sizes(source, output), 0
    else:
        model = ModelProto()
        model.CopyFrom(source)
    graph = model.graph
    rename_tensors(graph, _out_of_the_way)
    picture, mask = only_input(graph), chosen_output(graph, output)
    batch, height, width = _free_dimensions(picture, interface)
    _require_mask(mask, interface)
    before, constants = picture_nodes(INPUT_NAME, picture.name, picture.type.tensor_type.elem_type, interface)
    behind, more = alpha_nodes(mask, OUTPUT_NAME, interface, _opset(model))
    nodes = [*before, *needed_in_order(graph.node, mask.name), *behind]
    if not behind:
        rename_tensors(graph, lambda name: OUTPUT_NAME if name == mask.name else name)
    _replace_nodes(model, nodes, [*constants, *more])
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [batch, CHANNELS, height, width]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [batch, 1, height, width]))
    model.producer_name = "cutstream"
    helper.set_model_props(model, dict(provenance))
    _require_consistent(model, strict=interface.resizes_follow_maps)
    return model


def takes_batches(model: ModelProto) -> bool:
    """Tell whether a served network takes any number of pictures at once."""
    return bool(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)


def _out_of_the_way(name: str) -> str:
    """Give a tensor of the source another name where its own is one of ours."""
    ours = (INPUT_NAME, OUTPUT_NAME)
    return f"source/{name}" if name in ours or name.startswith(tuple(f"{part}/" for part in ours)) else name


def _free_dimensions(picture: ValueInfoProto, interface: Interface) -> tuple[Dimension, Dimension, Dimension]:
    """Return batch, height and width of the served network: a number where it is fixed, a name where it is free."""
    kind, dimensions = picture.type.tensor_type.elem_type, _dimensions(picture)
    if kind not in _PICTURE_TYPES or len(dimensions) != 4:  # noqa: PLR2004 - batch, channels, height, width
        raise UnknownNetworkError(
            f"the network takes no picture: its input {picture.name!r} is {TensorProto.DataType.Name(kind)} "
            f"{_text(dimensions)}, and float32 or float16 of 4 dimensions is wanted"
        )
    axes = (0, 1, 2, 3) if interface.layout == "NCHW" else (0, 3, 1, 2)
    batch, channels, *sides = (dimensions[axis] for axis in axes)
    if channels not in (CHANNELS, None):
        raise UnknownNetworkError(
            f"the network takes no picture in {interface.layout}: its input {picture.name!r} has the dimensions "
            f"{_text(dimensions)}, of which {channels} would be the channels, and {CHANNELS} are wanted"
        )
    if batch not in (1, None):
        raise UnknownNetworkError(f"the network takes batches of {batch} only; 1 or a free size is wanted")
    for side in sides:
        if side is not None and (side != interface.side or interface.other_sides):
            wanted = "every side" if interface.other_sides else f"{interface.side} x {interface.side}"
            raise UnknownNetworkError(f"the network's input {picture.name!r} is {_text(dimensions)}, and not {wanted}")
    free = (_HEIGHT, _WIDTH) if interface.other_sides else (interface.side, interface.side)
    return (batch or _BATCH, *free)


def _require_mask(mask: ValueInfoProto, interface: Interface) -> None:
    """Raise when what is known of an output excludes that it is one mask as large as the picture."""
    dimensions = _dimensions(mask) if mask.type.tensor_type.HasField("shape") else []
    if not dimensions:
        return
    if len(dimensions) not in MASK_RANKS:
        problem = f"{len(dimensions)} dimensions"
    else:
        channel_axis = 3 if interface.layout == "NHWC" else 1
        sides = dimensions[1:3] if interface.layout == "NHWC" or len(dimensions) == MASK_RANKS[0] else dimensions[2:]
        channels = dimensions[channel_axis] if len(dimensions) == MASK_RANKS[1] else 1
        if channels in (1, None) and all(side in (interface.side, None) for side in sides):
            return
        problem = f"the dimensions {_text(dimensions)}"
    raise UnknownNetworkError(
        f"the output {mask.name!r} has {problem}; one channel as large as the picture is wanted. Another output may be "
        "the mask"
    )


def _dimensions(value: ValueInfoProto) -> list[int | None]:
    """Return the sizes that are fixed, None for each that is free."""
    return [size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim]


def _text(dimensions: list[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in dimensions)}]"


def _opset(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _require_known_operators(model: ModelProto) -> None:
    """Raise when the network is newer than what is installed here, or uses operators of somebody's own."""
    opset, newest = _opset(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UnknownNetworkError(f"the network has opset {opset}; {newest} is the newest that is known here")
    own = {function.domain for function in model.functions}
    for node in all_nodes(model.graph.node):
        if node.domain not in _KNOWN_DOMAINS | own:
            where = f"of the domain {node.domain!r}"
        elif node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, opset, ""):
            where = f"is not in opset {opset}"
        else:
            continue
        raise UnknownNetworkError(
            f"the operator {node.op_type} (node {node.name!r}) {where}: no engine here knows it. Export the network "
            "with ONNX's own operators; deformable convolutions are among them from opset 19 on"
        )


def _replace_nodes(model: ModelProto, nodes: list[onnx.NodeProto], constants: list[TensorProto]) -> None:
    """Give the graph these nodes and the weights that they use, in the order in which they use them."""
    graph = model.graph
    known = {tensor.name: tensor for tensor in (*graph.initializer, *constants)}
    used = [known[name] for name in dict.fromkeys(name for node in nodes for name in inputs_of(node)) if name in known]
    del graph.node[:], graph.initializer[:], graph.quantization_annotation[:]
    for node in nodes:
        node.ClearField("doc_string")  # exporters put stack traces there, megabytes of them
    graph.node.extend(nodes)
    graph.initializer.extend(used)


def _require_consistent(model: ModelProto, *, strict: bool) -> None:
    """Raise when an operator, an attribute or, in a strict check, a type or a shape of the result does not fit.

    Weights that lie elsewhere count as inputs of the same type and shape: nothing more is asked of them.
    """
    described = ModelProto()
    described.CopyFrom(model)
    kept = [tensor for tensor in model.graph.initializer if not is_reference(tensor)]
    del described.graph.initializer[:]
    described.graph.initializer.extend(kept)
    for tensor in model.graph.initializer:
        if is_reference(tensor):
            described.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        onnx.checker.check_model(described, full_check=strict)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnknownNetworkError(f"the network is not consistent: {error}") from error
