"""The errors of the service: one small hierarchy, each class with the stable reason that a client may switch on.

Nothing here knows gRPC: `rpc/converters.py` maps a reason to a status code at the edge. `message` is for people and may
change; `reason` and the keys of `metadata` are API (see the table of errors in the proto file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


class CutstreamError(Exception):
    """An image, a request or the service failed in a way that the caller is told about.

    Args:
        message: one sentence for a person, free of image bytes and of internals.
        metadata: the dynamic parts (limits, measured values, names) as strings, keyed in snake_case.
    """

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}


class ImageEmptyError(CutstreamError):
    """The request or the image's chunks carried no byte."""

    reason = "IMAGE_EMPTY"


class ImageUndecodableError(CutstreamError):
    """The bytes begin like a supported format and cannot be decoded: truncated, damaged, or inconsistent."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedFormatError(CutstreamError):
    """The bytes are no image, or one of a format that this server does not read; metadata names `format` when known."""

    reason = "UNSUPPORTED_FORMAT"


class ImageTooLargeError(CutstreamError):
    """A limit on bytes, pixels or chunk size is exceeded; metadata: `limit`, `measured`, `unit`."""

    reason = "IMAGE_TOO_LARGE"

    @classmethod
    def of_bytes(cls, what: str, measured: int, limit: int) -> Self:
        """Makes the error of something that has too many bytes."""
        text = f"{what} has {measured} bytes; {limit} are allowed"
        return cls(text, limit=limit, measured=measured, unit="bytes")


class IncompleteImageError(CutstreamError):
    """The stream went on or ended before the image's last chunk."""

    reason = "INCOMPLETE_IMAGE"


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request: its path in the message, and what is wrong and what would be right."""

    field: str
    description: str


class InvalidOptionsError(CutstreamError):
    """One or more options are wrong; `violations` holds every one of them, not only the first."""

    reason = "INVALID_OPTIONS"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        first = self.violations[0]
        rest = f" (and {len(self.violations) - 1} more)" if len(self.violations) > 1 else ""
        # The whole list travels as violations; the message must stay small enough for a trailer.
        super().__init__(f"invalid options: {first.field}: {first.description}{rest}")


class UnknownModelError(CutstreamError):
    """The model named in the options is not served; metadata: `model`, `available`."""

    reason = "UNKNOWN_MODEL"


class OutputTooLargeError(CutstreamError):
    """The cutout does not fit a unary answer; the stream has no such limit. Metadata: `limit`, `measured`."""

    reason = "OUTPUT_TOO_LARGE"


class NoObjectError(CutstreamError):
    """Nothing in the image is foreground."""

    reason = "NO_OBJECT"


class ObjectTooSmallError(CutstreamError):
    """The object covers less than `MIN_OBJECT_COVERAGE` and validation rejects; metadata: `measured`, `allowed`."""

    reason = "OBJECT_TOO_SMALL"


class ObjectTooLargeError(CutstreamError):
    """The object covers more than `MAX_OBJECT_COVERAGE` and validation rejects; metadata: `measured`, `allowed`."""

    reason = "OBJECT_TOO_LARGE"


class ModelUnavailableError(CutstreamError):
    """Triton or the model does not answer now; the same image may succeed later."""

    reason = "MODEL_UNAVAILABLE"


class DrainingError(CutstreamError):
    """The server is stopping; send what is unanswered to another one."""

    reason = "DRAINING"


class OverloadedError(CutstreamError):
    """The budget for images or bytes in flight is spent; try again after `retry_after_seconds`."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(CutstreamError):
    """The time allowed for the image ran out; metadata: `timeout_seconds`."""

    reason = "DEADLINE"


class UploadTimeoutError(CutstreamError):
    """An image was begun and no data came for too long; metadata: `timeout_seconds`."""

    reason = "UPLOAD_TIMEOUT"


class ProtocolViolationError(CutstreamError):
    """The stream itself is used wrongly (no config first, an id that cannot be answered): it is aborted."""

    reason = "PROTOCOL_VIOLATION"


class UnauthenticatedError(CutstreamError):
    """The call brought no token, an unknown or an expired one; metadata: `cause` is no_token, unknown_token or
    expired_token.
    """

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(CutstreamError):
    """The token is for other methods; metadata: `token_name`, `method`, `allowed`."""

    reason = "PERMISSION_DENIED"


class InternalFaultError(CutstreamError):
    """A fault of ours. The text is fixed; what happened stands in the server's log under `fault_id`."""

    reason = "INTERNAL_FAULT"
