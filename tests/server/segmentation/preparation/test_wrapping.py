"""Networks of every interface are wrapped into the served one; what they answer is computed by numpy alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from synthetic_networks import IMAGENET, REGISTRY, UNCHANGED, logits, network, sigmoid

from cutstream_server.segmentation.preparation.errors import UnknownNetworkError
from cutstream_server.segmentation.preparation.interface import Interface
from cutstream_server.segmentation.preparation.network import prepare_network, takes_batches
from cutstream_server.segmentation.preparation.registry import load_registry

SIDE = 64
PLAIN = {"side": SIDE, "mean": IMAGENET[0], "std": IMAGENET[1]}
HALF = 2e-3
"""What float16 rounds away."""


def picture_of(side: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (batch, 3, side, side), dtype=np.uint8)


def served(model: onnx.ModelProto, picture: np.ndarray, interface: Interface) -> np.ndarray:
    """The answer of the wrapped network."""
    wrapped = prepare_network(model, interface, {}).SerializeToString()
    return ort.InferenceSession(wrapped, providers=["CPUExecutionProvider"]).run(["alpha"], {"image": picture})[0]


def like(**fields: object) -> Interface:
    return Interface.model_validate(PLAIN | fields)


def test_every_network_of_the_registry_has_its_synthetic_one() -> None:
    assert set(REGISTRY) == set(load_registry().models)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_network_of_the_registry_answers_as_numpy_does(name: str) -> None:
    synthetic, interface = REGISTRY[name], load_registry().models[name].interface
    picture = picture_of(interface.side)
    alpha = served(synthetic.model, picture, interface)
    halves = any(value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in synthetic.model.graph.output)
    np.testing.assert_allclose(alpha, synthetic.alpha(picture), atol=HALF if halves else 1e-5)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
def test_logits_get_their_sigmoid_in_every_opset(opset: int) -> None:
    picture = picture_of(SIDE)
    model = network(SIDE, sigmoid_inside=False, opset=opset)
    expected = sigmoid(logits(picture, IMAGENET))
    np.testing.assert_allclose(served(model, picture, like(activation="sigmoid")), expected, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 13])
def test_a_mask_without_a_dimension_for_channels_gets_one(opset: int) -> None:
    picture = picture_of(SIDE)
    model = network(SIDE, sigmoid_inside=True, flat=True, opset=opset)
    np.testing.assert_allclose(served(model, picture, like()), sigmoid(logits(picture, IMAGENET)), atol=1e-5)


def test_a_network_with_channels_last_is_given_them_last() -> None:
    picture = picture_of(SIDE)
    model = network(SIDE, sigmoid_inside=True, channels_last=True)
    alpha = served(model, picture, like(layout="NHWC"))
    np.testing.assert_allclose(alpha, sigmoid(logits(picture, IMAGENET)), atol=1e-5)


def test_a_network_of_blue_green_red_is_given_that_order_and_its_mean() -> None:
    picture = picture_of(SIDE)
    alpha = served(network(SIDE, sigmoid_inside=True), picture, like(channel_order="BGR"))
    np.testing.assert_allclose(alpha, sigmoid(logits(picture, IMAGENET, bgr=True)), atol=1e-5)


@pytest.mark.parametrize("output", ["output_image", -1, 2])
def test_the_mask_is_found_by_its_name_and_by_its_number_from_both_ends(output: int | str) -> None:
    picture = picture_of(SIDE)
    model = network(SIDE, sigmoid_inside=True, by_products=2, mask_first=False)
    np.testing.assert_allclose(
        served(model, picture, like(output=output)), sigmoid(logits(picture, IMAGENET)), atol=1e-5
    )


def test_a_network_of_other_sides_takes_them() -> None:
    model = network("S", sigmoid_inside=True)
    alpha = served(model, picture_of(96), like(other_sides=True))
    np.testing.assert_allclose(alpha, sigmoid(logits(picture_of(96), IMAGENET)), atol=1e-5)


@pytest.mark.parametrize(("batch", "several"), [("N", True), (1, False)])
def test_a_batch_is_free_where_the_networks_own_is(batch: int | str, several: bool) -> None:
    assert takes_batches(prepare_network(network(SIDE, sigmoid_inside=True, batch=batch), like(), {})) is several


def test_pictures_of_a_batch_do_not_influence_each_other() -> None:
    picture = picture_of(SIDE, batch=3)
    picture[1] //= 4
    interface = like(activation="min-max", output_range=(-4, 4))
    together = served(network(SIDE, sigmoid_inside=False, batch="N"), picture, interface)
    alone = [served(network(SIDE, sigmoid_inside=False, batch="N"), one[None], interface)[0] for one in picture]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("names", [("image", "alpha"), ("alpha", "image"), ("image/float", "alpha/0")])
def test_tensors_that_are_named_like_ours_are_told_apart(names: tuple[str, str]) -> None:
    picture = picture_of(SIDE)
    model = network(SIDE, sigmoid_inside=False, picture_name=names[0], mask_name=names[1])
    alpha = served(model, picture, like(activation="sigmoid"))
    np.testing.assert_allclose(alpha, sigmoid(logits(picture, IMAGENET)), atol=1e-5)


STRETCHED = Interface(side=SIDE, mean=UNCHANGED[0], std=UNCHANGED[1], activation="min-max", output_range=(-2, 2))


def shaded(darkest: int, brightest: int) -> np.ndarray:
    """Red from one value to another; the logits are 0.9 times that share of 255, minus 0.2."""
    picture = np.zeros((1, 3, SIDE, SIDE), np.uint8)
    picture[0, 0] = np.linspace(darkest, brightest, SIDE).round()
    return picture


def test_an_output_over_more_than_half_of_its_range_is_stretched_to_its_extremes() -> None:
    raw = logits(shaded(0, 255), UNCHANGED)
    interface = STRETCHED.model_copy(update={"output_range": (-0.4, 1.2)})
    alpha = served(network(SIDE, sigmoid_inside=False), shaded(0, 255), interface)
    np.testing.assert_allclose(alpha, (raw - raw.min()) / np.ptp(raw), atol=1e-5)


def test_a_picture_without_an_object_does_not_become_a_mask_of_noise() -> None:
    raw = logits(shaded(100, 110), UNCHANGED)
    alpha = served(network(SIDE, sigmoid_inside=False), shaded(100, 110), STRETCHED)
    np.testing.assert_allclose(alpha, (raw + 2) / 4, atol=1e-5)
    assert np.ptp(alpha) < 0.02


def test_a_flat_picture_has_a_flat_mask() -> None:
    alpha = served(network(SIDE, sigmoid_inside=False), shaded(100, 100), STRETCHED)
    np.testing.assert_allclose(alpha, (0.9 * 100 / 255 - 0.2 + 2) / 4, atol=1e-5)


def text_network() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["tokens"], ["out"])],
        "text",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"])],
        [helper.make_tensor_value_info("out", TensorProto.INT64, [1, "length"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_second_input(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input.append(helper.make_tensor_value_info("trimap", TensorProto.FLOAT, [1, 1, SIDE, SIDE]))
    return model


def with_operator(model: onnx.ModelProto, operator: str, domain: str = "") -> onnx.ModelProto:
    model.graph.node[-1].op_type, model.graph.node[-1].domain = operator, domain
    return model


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (text_network(), {}, r"takes no picture: its input 'tokens' is INT64 \[1, \?\]"),
        (with_second_input(network(SIDE, sigmoid_inside=True)), {}, r"2 inputs \('input_image', 'trimap'\)"),
        (network(SIDE, sigmoid_inside=True), {"side": 96}, r"\[1, 3, 64, 64\], and not 96 x 96"),
        (network(SIDE, sigmoid_inside=True), {"other_sides": True}, "and not every side"),
        (network(SIDE, sigmoid_inside=True), {"layout": "NHWC"}, "64 would be the channels"),
        (network(SIDE, sigmoid_inside=True, batch=4), {}, "batches of 4 only"),
        (network(SIDE, sigmoid_inside=True), {"output": "matte"}, r"no output 'matte'; its outputs are output_image"),
        (network(SIDE, sigmoid_inside=True), {"output": 1}, "no output 1"),
        (with_operator(network(SIDE, sigmoid_inside=True), "DeformConv2d", "org.example"), {}, "operator DeformConv2d"),
        (with_operator(network(SIDE, sigmoid_inside=True), "Brighten"), {}, r"operator Brighten .* is not in opset 17"),
    ],
    ids=lambda value: "" if isinstance(value, onnx.ModelProto) else str(value),
)
def test_what_does_not_fit_is_named(model: onnx.ModelProto, fields: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownNetworkError, match=message):
        prepare_network(model, like(**fields), {})


def test_a_mask_of_several_channels_is_refused_with_its_dimensions() -> None:
    model = network(SIDE, sigmoid_inside=True)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    with pytest.raises(UnknownNetworkError, match=r"\[1, 2, 64, 64\]"):
        prepare_network(model, like(), {})


def test_a_mask_of_another_size_than_the_picture_is_refused() -> None:
    model = network(SIDE, sigmoid_inside=True)
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 32
    with pytest.raises(UnknownNetworkError, match="as large as the picture"):
        prepare_network(model, like(), {})


def test_nodes_inside_a_condition_keep_what_they_take_from_around_it() -> None:
    model = network(SIDE, sigmoid_inside=False, mask_name="logits")
    mask_type = model.graph.output[0].type
    chosen = [helper.make_value_info("chosen", mask_type)]
    branches = {
        f"{branch}_branch": helper.make_graph([helper.make_node(operator, ["logits"], ["chosen"])], branch, [], chosen)
        for branch, operator in (("then", "Sigmoid"), ("else", "Relu"))
    }
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("If", ["yes"], ["mask"], **branches))
    model.graph.output[0].CopyFrom(helper.make_value_info("mask", mask_type))
    picture = picture_of(SIDE)
    np.testing.assert_allclose(served(model, picture, like()), sigmoid(logits(picture, IMAGENET)), atol=1e-5)
