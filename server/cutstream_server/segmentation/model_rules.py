"""What Triton's configuration of a model tells the service: which sides it takes, and under which terms it is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cutstream_server.segmentation.model_files import ModelFileError
from cutstream_server.segmentation.tensors import INPUT, MASK_TYPES, OUTPUT

PROBE_SIDE_PX = 64
"""IS-Net halves five times and refuses 32; at 64 a probe takes it 30 ms."""

_FREE = -1


@dataclass(frozen=True)
class ModelRules:
    """How a model may be used. The defaults hold for a model whose configuration says nothing.

    Attributes:
        side: of the square that it was trained for, in pixels.
        side_multiple: what other sides are multiples of.
        other_sides: whether it takes any.
        licence: of its weights; empty where nobody said.
        commercial_use: whether the licence allows that; None where nobody said.
    """

    side: int = 1024
    side_multiple: int = 32
    other_sides: bool = True
    licence: str = ""
    commercial_use: bool | None = None

    def side_for(self, factor: float) -> int:
        """The input's side for a factor of the model's own, in pixels: always its own where it takes no other."""
        if not self.other_sides:
            return self.side
        return max(1, round(self.side * factor / self.side_multiple)) * self.side_multiple

    @property
    def probe_side(self) -> int:
        """The least side at which the model answers for certain."""
        multiple = self.side_multiple
        return -(-PROBE_SIDE_PX // multiple) * multiple if self.other_sides else self.side


def rules_of(config: Any) -> ModelRules | None:
    """Reads a `ModelConfig` of Triton; None for a model of another interface than the one that is served here.

    Raises:
        ValueError: a parameter that should be a number is none.
    """
    inputs = [(tensor.name, tensor.data_type) for tensor in config.input]
    outputs = [(tensor.name, tensor.data_type) for tensor in config.output]
    masks = [[(OUTPUT, getattr(model_config_pb2, f"TYPE_{kind}"))] for kind in MASK_TYPES]
    if inputs != [(INPUT, model_config_pb2.TYPE_UINT8)] or outputs not in masks:
        return None
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    width = config.input[0].dims[-1]
    return ModelRules(
        side=int(parameters.get("CUTSTREAM_SIDE", ModelRules.side)) if width == _FREE else width,
        side_multiple=int(parameters.get("CUTSTREAM_SIDE_MULTIPLE", ModelRules.side_multiple)),
        other_sides=width == _FREE,
        licence=parameters.get("CUTSTREAM_LICENCE", ""),
        commercial_use={"yes": True, "no": False}.get(parameters.get("CUTSTREAM_COMMERCIAL_USE", "")),
    )


def rules_in(repositories: Iterable[Path], model: str) -> ModelRules:
    """Reads the rules of a model from its configuration in one of the folders.

    Raises:
        ModelFileError: the configuration cannot be read, or is that of another kind of model.
    """
    file = next((path for folder in repositories if (path := folder / model / "config.pbtxt").is_file()), None)
    if file is None:
        raise ModelFileError(f"the model {model!r} has no config.pbtxt")
    try:
        rules = rules_of(text_format.Parse(file.read_text(), model_config_pb2.ModelConfig()))
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    if rules is None:
        raise ModelFileError(f"{file} is not of a model from {INPUT}, UINT8, to {OUTPUT}, {' or '.join(MASK_TYPES)}")
    return rules
