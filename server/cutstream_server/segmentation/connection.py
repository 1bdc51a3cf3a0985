"""One connection to one Triton: arrays in, arrays out, its failures as this service's errors.

The generated stubs of `tritonclient` are used, and not its own async client: that turns status codes into strings, and
its channel's options are all or nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.errors import (
    CutstreamError,
    DeadlineError,
    InternalFaultError,
    ModelUnavailableError,
    UnknownModelError,
)

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "image", "alpha"

CHANNEL_OPTIONS = [
    # gRPC's own 4 MiB hold no 1024 x 1024 float mask with its frame; this is Triton's limit too.
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # Several addresses behind one name share the load.
    ("grpc.lb_policy_name", "round_robin"),
    # A Triton that came back is found at once: gRPC's own pause grows to two minutes, and a connection shared with an
    # earlier channel to the same address would be in the middle of its pause.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The embedded Triton is on this machine, whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
]

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_BUSY_TEXTS = ("Exceeds maximum queue size", "Request timeout expired")
_LOST_BACKEND_TEXT = "is not healthy"
_MEMORY_TEXTS = ("out of memory", "bad_alloc", "failed to allocate", "cannot allocate", "shared memory pool")
"""Of CUDA, ONNX Runtime, OpenVINO and Triton's Python backend, in lower case; the codes differ."""
_TEXT_SHOWN = 500
_MICROSECONDS = 1_000_000


class ModelBusyError(ModelUnavailableError):
    """Triton is well and refuses: its queue is full, the request waited in it for too long, or memory is short."""


class BackendLostError(ModelUnavailableError):
    """Triton has lost touch with a backend process, and that does not heal: one that was only held up and comes back is
    out of step with Triton from then on and may answer one request with another's result.
    """


@dataclass(frozen=True)
class Prediction:
    """A network's answer.

    Attributes:
        alpha: float32 [1, 1, H, W], finite, read-only.
        version: the version of the model that answered.
    """

    alpha: NDArray[np.float32]
    version: str


class TritonConnection:
    """A connection to the Triton at one address; it is made when first used and comes back by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._channel = grpc.aio.insecure_channel(url, CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def close(self, grace: float | None = None) -> None:
        """Closes it; calls under way have `grace` seconds to end."""
        await self._channel.close(grace)

    async def infer(
        self,
        model: str,
        image: NDArray[np.uint8],
        *,
        timeout: float,  # noqa: ASYNC109 - Triton must know it too
        version: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """Runs the network on one image. A cancelled call is cancelled in Triton's queue too.

        Args:
            model: its name.
            image: uint8 [1, 3, H, W], RGB.
            timeout: seconds, waiting in Triton's queue included.
            version: empty takes the newest.
            headers: sent along, such as `traceparent`.

        Raises:
            ModelBusyError: Triton's queue or memory is full.
            BackendLostError: Triton has lost the model's backend process.
            ModelUnavailableError: Triton does not answer.
            DeadlineError: the time ran out.
            UnknownModelError: Triton has no such model or version.
            InternalFaultError: Triton refused the request or answered with what is no mask of this image.
        """
        request = _request(model, image, timeout, version)
        began = time.monotonic()
        try:
            answer = await self._stub.ModelInfer(request, timeout=timeout, metadata=tuple((headers or {}).items()))
        except grpc.aio.AioRpcError as error:
            raise _translate(error, model, timeout, time.monotonic() - began) from error
        return Prediction(_read_alpha(answer, image.shape, model), answer.model_version)

    async def ready_models(
        self,
        *,
        timeout: float,  # noqa: ASYNC109 - it is gRPC's own
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Gives the newest ready version of each model that is loaded, by name; `headers` are sent along.

        Raises:
            ModelUnavailableError: Triton does not answer.
            DeadlineError: not in time.
        """
        request = service_pb2.RepositoryIndexRequest(ready=True)
        try:
            index = await self._stub.RepositoryIndex(request, timeout=timeout, metadata=tuple((headers or {}).items()))
        except grpc.aio.AioRpcError as error:
            raise _translate(error, "", timeout, timeout) from error
        versions: dict[str, str] = {}
        for entry in index.models:
            versions[entry.name] = max(versions.get(entry.name, ""), entry.version, key=lambda text: int(text or 0))
        return versions


def _request(model: str, image: NDArray[np.uint8], timeout: float, version: str) -> Any:
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[:2] != (1, 3):  # noqa: PLR2004 - [1, 3, H, W]
        raise ValueError(f"the image is {image.dtype} {image.shape}, not uint8 (1, 3, H, W)")
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name=INPUT, datatype="UINT8", shape=image.shape)
    request.outputs.add(name=OUTPUT)
    request.raw_input_contents.append(image.tobytes())
    # What waits for longer than the caller does is dropped from Triton's queue instead of being computed for nobody.
    request.parameters["timeout"].int64_param = int(timeout * _MICROSECONDS)
    return request


def _read_alpha(answer: Any, image_shape: tuple[int, ...], model: str) -> NDArray[np.float32]:
    expected = (1, 1, *image_shape[2:])
    found = [(output.name, output.datatype, tuple(output.shape)) for output in answer.outputs]
    if found != [(OUTPUT, "FP32", expected)]:
        raise _fault(f"model {model!r} answered {found} and not {OUTPUT}, FP32, {expected}")
    alpha: NDArray[np.float32] = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(expected)
    if not np.isfinite(alpha).all():
        raise _fault(f"model {model!r} answered with values that are not finite")
    return alpha


def _translate(error: grpc.aio.AioRpcError, model: str, timeout: float, elapsed: float) -> CutstreamError:
    """Finds the error of this service for one of Triton's; the texts are those of Triton 2.51."""
    code, text = error.code(), error.details() or ""
    queue_full = code == grpc.StatusCode.UNAVAILABLE and any(sign in text for sign in _BUSY_TEXTS)
    memory_full = any(sign in text.lower() for sign in _MEMORY_TEXTS)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED or (queue_full and elapsed >= timeout):
        return DeadlineError("the model did not answer in time", timeout_seconds=timeout)
    if memory_full:
        logger.error("model %r is short of memory: %s", model, text[:_TEXT_SHOWN])
    if queue_full or memory_full:
        return ModelBusyError("the model has too much to do or too little memory", model=model)
    if _LOST_BACKEND_TEXT in text:
        return BackendLostError("the model does not answer now", model=model)
    if code in _GONE:
        return ModelUnavailableError("the model does not answer now", model=model)
    if code == grpc.StatusCode.NOT_FOUND:
        return UnknownModelError(f"Triton does not serve model {model!r}", model=model)
    return _fault(f"model {model!r} refused a request: {code.name} {text[:_TEXT_SHOWN]}")


def explain(error: CutstreamError) -> str:
    """Gives an error of a call with what Triton said, for the log."""
    cause = error.__cause__
    said = f" ({cause.code().name}: {cause.details()})" if isinstance(cause, grpc.aio.AioRpcError) else ""
    return f"{error}{said}"


def _fault(text: str) -> InternalFaultError:
    """Logs what Triton did wrong: the caller is told nothing but that there was a fault."""
    logger.error("%s", text)
    return InternalFaultError("the model's answer cannot be used")
