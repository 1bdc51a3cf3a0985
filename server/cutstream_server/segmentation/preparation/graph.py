"""What the steps of the preparation ask of an ONNX graph: its one input, its names, the nodes that its mask needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto

from .errors import UnknownNetworkError


def only_input(graph: GraphProto) -> ValueInfoProto:
    """Return the graph's one input; initialisers that older exporters list among the inputs are none.

    Raises:
        UnknownNetworkError: it has none or several.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise UnknownNetworkError(f"the network has {len(inputs)} inputs ({names}); one image input is wanted")
    return inputs[0]


def chosen_output(graph: GraphProto, output: int | str) -> ValueInfoProto:
    """Return the output with a number, counted from 0 and from the end if negative, or with a name.

    Raises:
        UnknownNetworkError: there is none.
    """
    names = [value.name for value in graph.output]
    if isinstance(output, str):
        if output in names:
            return graph.output[names.index(output)]
    elif -len(names) <= output < len(names):
        return graph.output[output]
    raise UnknownNetworkError(f"the network has no output {output!r}; its outputs are {', '.join(names) or 'none'}")


def needed_in_order(nodes: Sequence[NodeProto], mask: str) -> list[NodeProto]:
    """Return the nodes that the mask depends on, each after those that it takes from.

    Raises:
        UnknownNetworkError: no node makes the mask, or nodes depend on each other in a circle.
    """
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    if mask not in producer:
        raise UnknownNetworkError(f"no node of the network makes its output {mask!r}")
    dependencies: dict[int, list[int]] = {}
    pending = [producer[mask]]
    while pending:
        index = pending.pop()
        if index not in dependencies:
            dependencies[index] = [producer[name] for name in inputs_of(nodes[index]) if name in producer]
            pending += dependencies[index]
    try:
        return [nodes[index] for index in TopologicalSorter(dependencies).static_order()]
    except CycleError as error:
        raise UnknownNetworkError("the nodes of the network depend on each other in a circle") from error


def inputs_of(node: NodeProto) -> Iterator[str]:
    """Yield what a node takes: its inputs, and what the graphs inside it (of If and Loop) take from around it."""
    yield from node.input
    for graph in _inner_graphs(node):
        own = {name for inner in graph.node for name in inner.output}
        own |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        yield from (name for inner in graph.node for name in inputs_of(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield the nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for graph in _inner_graphs(node):
            yield from all_nodes(graph.node)


def rename_tensors(graph: GraphProto, new_name: Callable[[str], str]) -> None:
    """Rename tensors throughout a graph, in place."""
    for node in graph.node:
        node.input[:] = [new_name(name) for name in node.input]
        node.output[:] = [new_name(name) for name in node.output]
        for inner in _inner_graphs(node):
            rename_tensors(inner, new_name)
    for value in (*graph.input, *graph.output):
        value.name = new_name(value.name)
    for tensor in graph.initializer:
        tensor.name = new_name(tensor.name)


def _inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs
