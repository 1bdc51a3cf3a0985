"""`cutstream-server model build --precision int8`: a second model beside the built one, at 8 bits."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cutstream_server.segmentation.preparation.digests import file_digest
from cutstream_server.segmentation.preparation.errors import CheckFailedError, PreparationError
from cutstream_server.segmentation.preparation.progress import Report
from cutstream_server.segmentation.preparation.record import read_record, valid_record, weights_file, write_record
from cutstream_server.segmentation.quantisation.environment import quantiser_python

LARGEST_DIFFERENCE = 0.015
"""Mean absolute difference of the masks, 0..1, over the photos that are held out. IS-Net has 0.002 to 0.01."""

_SUFFIX = "_int8"
_FILE_NAME = "model.xml"
_WORKER = Path(__file__).with_name("worker.py")


def quantise_model(model: Path, report: Report, *, photos: Path | None = None, force: bool = False) -> Path:
    """Make the int8 variant of a built model, by post-training quantisation, as a model of its own.

    Args:
        model: REPOSITORY/NAME/VERSION/model.onnx.
        report: told what happens.
        photos: a folder of photos to calibrate with, ten or more like those that will come; without it the quantiser's
            own ones are taken.
        force: make it also when one from this model is there.

    Returns:
        REPOSITORY/NAME_int8/VERSION/model.xml, beside which its weights lie. Both appear whole, or stay as they were.

    Raises:
        PreparationError: the model was not built here, the quantiser cannot be installed or fails, or the masks
            differ by too much.
    """
    record = read_record(model)
    if record is None or record.interface is None:
        raise PreparationError(f"{model} has no record of its build; `cutstream-server model build` makes both")
    if photos is not None and not photos.is_dir():
        raise PreparationError(f"{photos} is no folder of photos to calibrate with")
    name = model.parent.parent.name + _SUFFIX
    target = model.parent.parent.with_name(name) / model.parent.name / _FILE_NAME
    made = valid_record(target, record.recipe)
    if not force and made is not None and made.source_sha256 == record.model_sha256:
        report.say(f"{target} is up to date")
        return target
    python = quantiser_python(report)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as scratch:
        draft = Path(scratch) / _FILE_NAME
        report.say("quantising to int8: two minutes or more on two cores, with 5 GB of memory")
        _check(_run(python, model, draft, record.interface["side"], photos), report)
        digests = [file_digest(file).value for file in (draft, weights_file(draft))]
        made = replace(record, source_sha256=record.model_sha256, model_sha256=digests[0], weights_sha256=digests[1])
        weights_file(draft).replace(weights_file(target))
        draft.replace(target)
    write_record(target, made)
    config = model.parent.parent / "config.pbtxt"
    # Last: a model counts as being there from its configuration on.
    (target.parent.parent / config.name).write_text(_config(config.read_text(), name))
    report.say(f"wrote {target}; CUTSTREAM_MODEL={name} or the option `model` chooses it")
    return target


def _check(differences: Mapping[str, float], report: Report) -> None:
    for photo, difference in differences.items():
        report.say(f"mean difference of the mask of {photo}: {difference:.4f}")
    mean = sum(differences.values()) / len(differences)
    if mean > LARGEST_DIFFERENCE:
        raise CheckFailedError(
            f"the int8 masks differ by {mean:.4f} on average; {LARGEST_DIFFERENCE} is allowed. Photos like those that "
            "will come, given with --calibration, may calibrate the network better"
        )
    report.say(f"on average {mean:.4f}, of at most {LARGEST_DIFFERENCE}")


def _run(python: Path, model: Path, draft: Path, side: int, photos: Path | None) -> dict[str, float]:
    command = [str(python), str(_WORKER), str(model), str(draft), str(side), *([str(photos)] if photos else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own command
    if result.returncode:
        raise PreparationError(f"the quantiser ended with status {result.returncode}; its reason stands above")
    differences: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return differences


def _config(text: str, name: str) -> str:
    """Give the configuration of the int8 model: that of the model it comes from, with another name and file."""
    for key, value in (("name", name), ("default_model_filename", _FILE_NAME)):
        text, count = re.subn(rf'^{key}: ".*"$', f'{key}: "{value}"', text, flags=re.MULTILINE)
        if count != 1:
            raise PreparationError(f"the model's config.pbtxt has {count} lines that begin with `{key}:`, and not one")
    return text
