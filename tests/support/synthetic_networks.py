"""Small networks with the interfaces of large ones, and what they must answer, computed by numpy alone.

Each weighs the channels of its normalised picture differently, so that a wrong mean, deviation or channel order changes
the answer, and adds them to logits. Normalisations are written out here, not taken from the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WEIGHTS = (0.9, -0.6, 0.4)
BIAS = -0.2


@dataclass(frozen=True)
class Synthetic:
    """A network and its answer."""

    model: onnx.ModelProto
    alpha: Callable[[np.ndarray], np.ndarray]
    """From uint8 [N, 3, H, W] RGB to [N, 1, H, W]."""


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def logits(picture, norm, *, bgr=False):
    mean, std = (np.array(part).reshape(1, 3, 1, 1) for part in norm)
    channels = picture[:, ::-1] if bgr else picture
    normalised = (channels / 255 - mean) / std
    return (normalised * np.array(WEIGHTS).reshape(1, 3, 1, 1)).sum(axis=1, keepdims=True) + BIAS


def network(
    side,
    *,
    sigmoid_inside,
    batch=1,
    dtype=np.float32,
    output_dtype=None,
    mask_first=True,
    by_products=0,
    channels_last=False,
    flat=False,
    opset=17,
    picture_name="input_image",
    mask_name="output_image",
):
    """The weighted sum of the channels by a convolution of 1 x 1, perhaps its sigmoid, and by-products beside it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    output_kind = helper.np_dtype_to_tensor_dtype(np.dtype(output_dtype or dtype))
    nodes, tensor = [], picture_name

    def step(operator, *others, **attributes):
        nonlocal tensor
        nodes.append(helper.make_node(operator, [tensor, *others], [f"step{len(nodes)}"], **attributes))
        tensor = nodes[-1].output[0]

    if channels_last:
        step("Transpose", perm=[0, 3, 1, 2])
    step("Conv", "weights", "bias")
    if sigmoid_inside:
        step("Sigmoid")
    if flat:
        step("Reshape", "flat_shape")
    elif channels_last:
        step("Transpose", perm=[0, 2, 3, 1])
    if output_kind != kind:
        step("Cast", to=output_kind)
    nodes[-1].output[0] = mask_name
    spatial = {"flat": [side, side], "last": [side, side, 1], "first": [1, side, side]}
    shape = [batch, *spatial["flat" if flat else "last" if channels_last else "first"]]
    outputs = [helper.make_tensor_value_info(mask_name, output_kind, shape)]
    for index in range(by_products):
        nodes.append(helper.make_node("Neg", [mask_name], [f"by_product{index}"]))
        outputs.append(helper.make_tensor_value_info(f"by_product{index}", output_kind, shape))
    picture_shape = [batch, side, side, 3] if channels_last else [batch, 3, side, side]
    weights = [
        numpy_helper.from_array(np.array(WEIGHTS, dtype).reshape(1, 3, 1, 1), "weights"),
        numpy_helper.from_array(np.array([BIAS], dtype), "bias"),
    ]
    if flat:
        weights.append(numpy_helper.from_array(np.array([-1, side, side], np.int64), "flat_shape"))
    graph = helper.make_graph(
        nodes,
        "synthetic",
        [helper.make_tensor_value_info(picture_name, kind, picture_shape)],
        outputs if mask_first else outputs[::-1],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def of_isnet():
    """Fixed to 1024 by its constants: a map of half the size, enlarged and joined, as U-networks do; 2 outputs."""
    side = 1024
    weights = {
        # The enlarged map is the means of 2 x 2 pixels; it gets a weight of its own beside the channels.
        "halves": np.array([1, 3, side, side], np.int64),
        "mix": np.array([*WEIGHTS, 0.5, 0.0, 0.0], np.float32).reshape(1, 6, 1, 1),
        "bias": np.array([BIAS], np.float32),
    }
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("MaxPool", ["input_image"], ["pooled"], **pool),
        helper.make_node("Resize", ["pooled", "", "", "halves"], ["enlarged"], mode="nearest"),
        helper.make_node("Concat", ["input_image", "enlarged"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "mix", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output_image"]),
        helper.make_node("Relu", ["logits"], ["by_product"]),
    ]
    masks = ("output_image", "by_product")
    graph = helper.make_graph(
        nodes,
        "synthetic",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side]) for name in masks],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    def alpha(picture):
        red = picture[:, :1] / 255 - 0.5
        largest = red.reshape(*red.shape[:2], red.shape[2] // 2, 2, red.shape[3] // 2, 2).max(axis=(3, 5))
        return sigmoid(logits(picture, CENTRED) + 0.5 * largest.repeat(2, axis=2).repeat(2, axis=3))

    return Synthetic(model, alpha)


def imagenet(**form):
    return Synthetic(network(**form), lambda picture: sigmoid(logits(picture, IMAGENET)))


SIDE_OUTPUTS = {
    "sigmoid_inside": True,
    "by_products": 6,
    "opset": 11,
    "picture_name": "input.1",
    "mask_name": "1959",
}
LOGITS_LAST = {"sigmoid_inside": False, "by_products": 3, "mask_first": False, "opset": 16}

REGISTRY = {
    "isnet": of_isnet(),
    "u2net": imagenet(side=320, **SIDE_OUTPUTS),
    "u2netp": imagenet(side=320, **SIDE_OUTPUTS),
    "birefnet-general": imagenet(side=1024, **LOGITS_LAST),
    "birefnet-general-lite": imagenet(side=1024, **LOGITS_LAST),
    "birefnet-portrait": imagenet(side=1024, **LOGITS_LAST),
    "birefnet-dynamic": imagenet(side=1024, sigmoid_inside=True, batch="N", dtype=np.float16, opset=19),
    "rmbg-2.0": imagenet(side=1024, sigmoid_inside=True, mask_name="alphas"),
    "ben2": Synthetic(
        network(side=1024, sigmoid_inside=True, output_dtype=np.float16),
        lambda picture: sigmoid(logits(picture, UNCHANGED)),
    ),
}
"""A network with exactly the interface of each one of the registry."""
