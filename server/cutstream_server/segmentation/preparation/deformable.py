"""torchvision's deformable convolution as ONNX's own, which PyTorch's exporter does not know.

Both sample an input at offsets that another tensor gives, and weigh the samples by a mask.
https://onnx.ai/onnx/operators/onnx__DeformConv.html
"""

from __future__ import annotations

from typing import Any

from onnxscript import opset19


def deformable_convolution(
    picture: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    """Return the ONNX operator with the arguments of `torchvision::deform_conv2d`."""
    return opset19.DeformConv(
        picture,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        strides=[stride_h, stride_w],
        pads=[pad_h, pad_w, pad_h, pad_w],
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
    )
