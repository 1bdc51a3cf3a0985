"""Writes the configurations by which Triton serves a model: one for processors, one for GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from .interface import Interface

_TEMPLATES = Path(__file__).parent / "templates"
CPU_FILE, GPU_FILE = Path("config.pbtxt"), Path("configs") / "gpu.pbtxt"

# TensorRT plans for this many; 319 GFLOP an image of IS-Net keep a GPU busy almost alone, and memory grows with the
# batch. Chosen so, not yet measured.
_GPU_BATCH = 4
_PREFERRED = """  # Only images of one size share a batch.
  preferred_batch_size: [ 2, 4 ]
  # 2 ms: little beside an inference, enough for images that are already on their way.
  max_queue_delay_microseconds: 2000
"""
# Of the network's own side: what the scales 0.25 to 1.25 need.
_LEAST_SCALE, _MOST_SCALE = 0.25, 1.25


@dataclass(frozen=True)
class ModelDescription:
    """What the configurations say about a model besides its interface.

    Attributes:
        title: what it is, in a few words.
        licence: of its weights.
        commercial_use: whether the licence allows that; None where nobody said.
        batches: whether it takes several pictures at once.
    """

    title: str
    licence: str
    commercial_use: bool | None
    batches: bool


def write_configs(folder: Path, description: ModelDescription, interface: Interface) -> None:
    """Write both configurations into a model's folder, whose name is the model's; those that are there stay.

    They are the operator's to change: instances, queues and precisions are set there.
    """
    for file, text in configs(folder.name, description, interface).items():
        target = folder / file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


def configs(name: str, description: ModelDescription, interface: Interface) -> dict[Path, str]:
    """Give the text of each configuration by its place in the model's folder."""
    side, free = interface.side, interface.other_sides
    multiple = interface.side_multiple
    sides = f"Its side is a multiple of {multiple}; {side} is that of the training." if free else f"Its side is {side}."
    commercial = {True: "yes", False: "no", None: "unknown"}[description.commercial_use]
    values = {
        "name": name,
        "title": _quotable(description.title),
        "sides": sides,
        "input_sides": "-1, -1" if free else f"{side}, {side}",
        "side": side,
        "side_multiple": multiple if free else side,
        "licence": _quotable(description.licence),
        "commercial_use": commercial,
        "least": int(side * _LEAST_SCALE) if free else side,
        "most": int(side * _MOST_SCALE) if free else side,
        **_batches(several=description.batches),
    }
    return {
        file: Template((_TEMPLATES / template).read_text()).substitute(values)
        for file, template in ((CPU_FILE, "cpu.pbtxt"), (GPU_FILE, "gpu.pbtxt"))
    }


def _batches(*, several: bool) -> dict[str, object]:
    if several:
        return {
            "batching": "Memory grows with the batch, and one large image keeps a GPU busy almost alone.",
            "max_batch_size": _GPU_BATCH,
            "most_batch": _GPU_BATCH,
            "batch_dims": "",
            "preferred": _PREFERRED,
            "warm_up_batch": 1,
        }
    return {
        "batching": "The network's own graph fixes the batch to 1, so that it stands among the dimensions.",
        "max_batch_size": 0,
        "most_batch": 1,
        "batch_dims": "1, ",
        "preferred": "",
        "warm_up_batch": 0,
    }


def _quotable(text: str) -> str:
    """Give a text that can stand in quotes and in a comment of one line."""
    return " ".join(text.split()).replace("\\", "/").replace('"', "'")
