"""The one exception of this library: why there is no cutout, with a stable reason that programs may switch on.

Reasons of the server stand in the table of `cutstream.proto`. Added on this side:

| reason             | code              | retried | meaning |
|--------------------|-------------------|---------|---------|
| SOURCE_UNREADABLE  | INVALID_ARGUMENT  | no      | the image could not be read or encoded; nothing was sent |
| INVALID_OPTIONS    | INVALID_ARGUMENT  | no      | also found before sending; `violations` names every wrong option |
| SERVER_UNREACHABLE | UNAVAILABLE       | yes     | no connection for `RetryConfig.unreachable_seconds` |
| CONNECTION_LOST    | UNAVAILABLE       | yes     | the connection broke during the image's last attempt |
| DEADLINE           | DEADLINE_EXCEEDED | no      | also the caller's own timeouts |
| CANCELLED          | CANCELLED         | no      | the client was closed while the stream was in use |

A status without a reason, as a proxy or gRPC itself may send, has its code's name as reason (UNAUTHENTICATED, ...).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from cutstream.results import Metrics

SOURCE_UNREADABLE = "SOURCE_UNREADABLE"
INVALID_OPTIONS = "INVALID_OPTIONS"
SERVER_UNREACHABLE = "SERVER_UNREACHABLE"
CONNECTION_LOST = "CONNECTION_LOST"
DEADLINE = "DEADLINE"
MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
INTERNAL_FAULT = "INTERNAL_FAULT"
CANCELLED = "CANCELLED"
UNAUTHENTICATED = "UNAUTHENTICATED"
PERMISSION_DENIED = "PERMISSION_DENIED"
IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"

RETRYABLE_REASONS = frozenset(
    {MODEL_UNAVAILABLE, "DRAINING", "OVERLOADED", INTERNAL_FAULT, SERVER_UNREACHABLE, CONNECTION_LOST}
)


@dataclass(frozen=True)
class FieldViolation:
    """One wrong option."""

    field: str
    """Name of the option, or its path in the request."""

    description: str
    """What is wrong and what would be right."""


class CutoutError(Exception):
    """Why there is no cutout. Raised by single calls, yielded in the place of a cutout by streams.

    Example:
        >>> error = CutoutError("NO_OBJECT", "nothing in the image is foreground", image_id="cat.jpg")
        >>> str(error), error.retryable
        ('NO_OBJECT: nothing in the image is foreground', False)
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        image_id: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        metrics: Metrics | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        """Stable name of the cause, such as "NO_OBJECT"."""
        self.message = message
        """A sentence for people; may change between versions."""
        self.code = code
        """The gRPC status code."""
        self.image_id = image_id
        """The image that failed; empty when the call failed as a whole."""
        self.metadata = dict(metadata or {})
        """The dynamic parts: limits, measured values, names."""
        self.violations = tuple(violations)
        """INVALID_OPTIONS: every wrong option."""
        self.metrics = metrics
        """What was measured before the failure, if anything."""
        self.retry_after_seconds = retry_after_seconds
        """OVERLOADED: how long the server asks to wait."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"

    @property
    def retryable(self) -> bool:
        """Whether the same image may succeed later. The client has then already retried as its RetryConfig says."""
        return self.reason in RETRYABLE_REASONS


def for_image(error: CutoutError, image_id: str) -> CutoutError:
    """The same failure as the result of one image: several images of a stream may fail for one cause."""
    own = copy.copy(error)
    own.image_id = image_id
    own.__cause__ = error.__cause__
    return own


def invalid_options(violations: Sequence[FieldViolation]) -> CutoutError:
    """The error that lists all wrong options at once."""
    listing = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return CutoutError(INVALID_OPTIONS, listing, code=grpc.StatusCode.INVALID_ARGUMENT, violations=violations)


def source_unreadable(cause: Exception) -> CutoutError:
    """The error of an image that could not be read or encoded on this side."""
    error = CutoutError(SOURCE_UNREADABLE, str(cause) or type(cause).__name__, code=grpc.StatusCode.INVALID_ARGUMENT)
    error.__cause__ = cause
    return error


def deadline(timeout_seconds: float) -> CutoutError:
    """The error of the caller's own timeout."""
    return CutoutError(
        DEADLINE,
        f"no answer within {timeout_seconds:g} s",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        metadata={"timeout_seconds": f"{timeout_seconds:g}"},
    )
