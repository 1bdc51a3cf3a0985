"""Images and masks as tensors of Triton's gRPC protocol."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from cutstream_server.segmentation.failures import fault

INPUT, OUTPUT = "image", "alpha"

MASK_TYPES: dict[str, np.dtype[Any]] = {"UINT16": np.dtype(np.uint16), "FP32": np.dtype(np.float32)}
"""In which networks answer: alpha times 65535, or alpha itself. Half floats have 11 bits only, and turning them into
floats costs more than the 2 MB of a mask save."""

_MICROSECONDS = 1_000_000


def inference_request(model: str, image: NDArray[np.uint8], timeout: float, version: str) -> Any:
    """Makes a request for the mask of an image, uint8 [1, 3, H, W], that lacks the image's bytes."""
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[:2] != (1, 3):  # noqa: PLR2004 - [1, 3, H, W]
        raise ValueError(f"the image is {image.dtype} {image.shape}, not uint8 (1, 3, H, W)")
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name=INPUT, datatype="UINT8", shape=image.shape)
    request.outputs.add(name=OUTPUT)
    # What waits for longer than the caller does is dropped from Triton's queue instead of being computed for nobody.
    request.parameters["timeout"].int64_param = int(timeout * _MICROSECONDS)
    return request


def mask_size(image: NDArray[np.uint8]) -> int:
    """Gives the most bytes that the mask of an image [1, 3, H, W] has; its type is the network's choice."""
    return int(image[0, 0].size) * max(kind.itemsize for kind in MASK_TYPES.values())


def read_mask(answer: Any, content: bytes | memoryview, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gives the mask of an image [1, 3, H, W] as float32 [1, 1, H, W] in 0..1.

    Bytes are its memory from then on; of a memoryview, which is shared memory, it is a copy.

    Raises:
        InternalFaultError: the answer is no mask of this image, or has values that are not finite.
    """
    model, shape = answer.model_name, (1, 1, *image.shape[2:])
    found = [(output.name, output.datatype, tuple(output.shape)) for output in answer.outputs]
    kind = next((kind for kind in MASK_TYPES if found == [(OUTPUT, kind, shape)]), None)
    if kind is None:
        raise fault(f"model {model!r} answered {found} and not {OUTPUT}, {' or '.join(MASK_TYPES)}, {shape}")
    mask: NDArray[np.float32] = np.frombuffer(content, MASK_TYPES[kind], math.prod(shape)).reshape(shape)
    if kind == "UINT16":
        mask = np.divide(mask, np.float32(np.iinfo(np.uint16).max), dtype=np.float32)
    elif not np.isfinite(mask).all():
        raise fault(f"model {model!r} answered with values that are not finite")
    elif isinstance(content, memoryview):
        mask = mask.copy()
    return mask
