"""What can go wrong while a model is prepared. The messages are for the person who ran the command."""

from __future__ import annotations


class PreparationError(Exception):
    """The model could not be built; the message says why and what to do."""


class SourceUnavailableError(PreparationError):
    """A source of the network is blocked, does not answer, or breaks off again and again."""


class HashMismatchError(PreparationError):
    """A file is not the one whose hash is pinned."""


class UnknownNetworkError(PreparationError):
    """The file is no ONNX network, or one whose structure the graph surgery does not know."""


class CheckFailedError(PreparationError):
    """The built network answers differently from its source."""


class UnknownModelNameError(PreparationError):
    """The registry or the repository has no model of this name."""


class LicenceError(PreparationError):
    """The model's licence forbids commercial use, and nobody has said that this is accepted."""


class InterfaceError(PreparationError):
    """What was told of a network is not enough, or does not fit together."""


class MissingLibraryError(PreparationError):
    """A library that only this command needs is not installed."""
