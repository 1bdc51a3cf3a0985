"""Writes the tests' network: the interface of IS-Net, and a mask that is the picture's red channel / 255.

A test draws the mask that it wants into the red channel and knows every number that must come out.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

MODEL = Path("tiny") / "1" / "model.onnx"


def write_tiny_model(folder: Path) -> Path:
    """Write `folder`/tiny/1/model.onnx: `image` uint8 [N, 3, H, W] to `alpha` float32 [N, 1, H, W]; return its path.

    The file is replaced at once, so that a Triton that is loading it never sees half of it.
    """
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("end", TensorProto.INT64, [1], [1]),
        helper.make_tensor("channels", TensorProto.INT64, [1], [1]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0]),
    ]
    nodes = [
        helper.make_node("Slice", ["image", "first", "end", "channels"], ["red"]),
        helper.make_node("Cast", ["red"], ["red_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["red_float", "scale"], ["alpha"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    target = folder / MODEL
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    part.replace(target)
    return target


if __name__ == "__main__":
    write_tiny_model(Path(__file__).parent)
