"""What a Triton says that went wrong, as this service's errors; the texts are those of Triton 2.51."""

from __future__ import annotations

import logging

import grpc

from cutstream_server.errors import (
    CutstreamError,
    DeadlineError,
    InternalFaultError,
    ModelUnavailableError,
    UnknownModelError,
)

logger = logging.getLogger(__name__)

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_BUSY_TEXTS = ("Exceeds maximum queue size", "Request timeout expired")
_MEMORY_TEXTS = ("out of memory", "bad_alloc", "failed to allocate", "cannot allocate", "shared memory pool")
"""Of CUDA, ONNX Runtime, OpenVINO and Triton's Python backend, in lower case; the codes differ."""
_TEXT_SHOWN = 500


class ModelBusyError(ModelUnavailableError):
    """Triton is well and refuses: its queue is full, the request waited in it for too long, or memory is short."""


class RegionLostError(ModelUnavailableError):
    """Triton does not know the shared memory: it is another one than that which answered before."""


class BackendLostError(ModelUnavailableError):
    """Triton has lost touch with a backend process, and that does not heal: one that was only held up and comes back is
    out of step with Triton from then on and may answer one request with another's result.
    """


_LOST_TEXTS = {"is not healthy": BackendLostError, "Unable to find shared memory region": RegionLostError}


def translate(error: grpc.aio.AioRpcError, model: str, timeout: float, elapsed: float) -> CutstreamError:
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
    lost = next((kind for sign, kind in _LOST_TEXTS.items() if sign in text), ModelUnavailableError)
    if lost is not ModelUnavailableError or code in _GONE:
        return lost("the model does not answer now", model=model)
    if code == grpc.StatusCode.NOT_FOUND:
        return UnknownModelError(f"Triton does not serve model {model!r}", model=model)
    return fault(f"model {model!r} refused a request: {code.name} {text[:_TEXT_SHOWN]}")


def explain(error: CutstreamError) -> str:
    """Gives an error of a call with what Triton said, for the log."""
    cause = error.__cause__
    said = f" ({cause.code().name}: {cause.details()})" if isinstance(cause, grpc.aio.AioRpcError) else ""
    return f"{error}{said}"


def fault(text: str) -> InternalFaultError:
    """Logs what Triton did wrong: the caller is told nothing but that there was a fault."""
    logger.error("%s", text)
    return InternalFaultError("the model's answer cannot be used")
