"""The options of a removal as typed keyword arguments, checked here before anything is sent.

Every name, range and default is that of `RemovalOptions` in `cutstream.proto`. An option left out is decided by the
server: preset, profile, its environment, its default. Enum values are their names in lower case without prefix.
"""

from __future__ import annotations

import datetime
import difflib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from cutstream.errors import FieldViolation, invalid_options
from cutstream.geometry import Box
from cutstream.v1 import cutstream_pb2 as pb


class Options(TypedDict, total=False):
    """How an image is to be processed; every key may be left out.

    Example:
        >>> options: Options = {"preset": "trellis", "output_format": "webp", "region_of_interest": (0, 0, 320, 240)}
    """

    preset: str
    """Name of a framing preset of `ServerInfo.presets`, such as "trellis"."""
    profile: Literal["fast", "balanced", "quality"]
    """How much work goes into quality. Default balanced."""
    model: str
    """Name of a model of `ServerInfo.models`. Default: the server's."""
    mask_threshold: float
    """Alpha above which a pixel is object, when the box is taken: 0 to 1. Default 0.8."""
    mask_threshold_min: float
    """Lower bound of the threshold used: 0 to 1. Default 0.5."""
    mask_threshold_max: float
    """Upper bound of the threshold used: 0 to 1. Default 0.95."""
    use_adaptive_threshold: bool
    """Choose the threshold from the mask's histogram. Default false."""
    mask_quantization_bits: Literal[0, 8, 16]
    """Round the mask to this many bits; 0 keeps float. Default 0."""
    enable_antialiasing: bool
    """Scale the resampling kernel with the reduction. Default true."""
    interpolation_mode: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    """Kernel of the resampling from source to cutout. Default bilinear."""
    padding_percentage: float
    """Space around the object: crop side = long side * (1 + p), 0 to 4. Default 0.2."""
    use_smart_padding: bool
    """Centre on the object's centre of mass as far as its margins allow. Default true."""
    adaptive_padding_factor: float
    """For long boxes: factor on the short axis' margin, 1 to 10. Default 1.5."""
    enable_edge_refinement: bool
    """Refine the mask's edge by the colours beside it. Default false."""
    edge_refinement_radius: int
    """Radius of the refinement's window in pixels of a grid with a long side of 1024: 1 to 64. Default 5."""
    edge_refinement_eps: float
    """Regularisation of the refinement: above 0, at most 1. Default 0.001."""
    min_object_coverage: float
    """Smallest share of the image that validates as an object: 0 to 1. Default 0.05."""
    max_object_coverage: float
    """Largest share of the image that validates as an object: 0 to 1. Default 0.95."""
    enable_quality_metrics: bool
    """Compute the metrics. Default true."""
    enable_multi_scale: bool
    """Run the network at several input sizes and take the median. Default false."""
    multi_scale_factors: Sequence[float]
    """The sizes as factors of the network's own: 1 to 5 of them, 0.25 to 2 each. Default 0.8, 1.0, 1.2."""
    object_validation: Literal["flag", "reject", "off"]
    """What is done about objects that are too small or too large. Default flag."""
    alpha_floor: float
    """Alpha below it becomes 0 and above 1 - it becomes 1: 0 to 0.25. Default 0.01."""
    framing: Literal["object_crop", "full"]
    """Which part of the source the cutout shows. Default object_crop."""
    output_width_px: int
    """Width of the cutout: 1 to 4096; alone it means a square. Default 518, with framing="full" the source's."""
    output_height_px: int
    """Height of the cutout: 1 to 4096; alone it means a square. Default 518, with framing="full" the source's."""
    size_mode: Literal["fixed", "native", "longest_at_most"]
    """How the cutout's size follows from the output size and the crop. Default fixed."""
    output_format: Literal["png", "webp", "raw"]
    """File format of the cutout; raw is rows of interleaved little-endian samples. Default png."""
    channels: Literal["rgba", "alpha", "rgb"]
    """Channels of the cutout; rgb is composited over `background_color`. Default rgba."""
    sample_type: Literal["uint8", "uint16", "float32"]
    """Type of one sample: uint16 for png and raw, float32 for raw. Default uint8."""
    alpha_mode: Literal["straight", "premultiplied"]
    """Whether colour is multiplied by alpha; with channels="rgba". Default straight."""
    background_color: str
    """"#RRGGBB", with channels="rgb". Default "#000000"."""
    estimate_foreground: bool
    """Replace the colours of soft pixels by an estimate of the foreground's own. Default true, not in profile fast."""
    png_compression_level: int
    """Effort of the PNG encoder: 0 (none) to 9 (smallest). Default 1."""
    input_alpha: Literal["use", "ignore"]
    """What to do with transparency that the input already has. Default use."""
    keep_components: Literal["all", "largest"]
    """Which connected parts of the mask are the object. Default all."""
    region_of_interest: Box | tuple[float, float, float, float]
    """Limits the search to this part of the source: (left, top, width, height) in pixels."""
    content: Literal["cutout_and_metrics", "metrics_only"]
    """What the answer holds. Default cutout_and_metrics."""
    processing_timeout: float | datetime.timedelta
    """Seconds that the server may spend on the image, above 0."""


class _WrongValueError(Exception):
    """What is wrong with one option."""


@dataclass(frozen=True)
class _Range:
    """Numbers an option may take, `low` and `high` included unless `above_low`."""

    low: float
    high: float = math.inf
    above_low: bool = False

    def __contains__(self, number: float) -> bool:
        return (self.low < number if self.above_low else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.above_low else f"at least {self.low:g}"
        return f"above {self.low:g}, at most {self.high:g}" if self.above_low else f"{self.low:g} to {self.high:g}"


_RATIO = _Range(0, 1)
_SIDE_PX = _Range(1, 4096)
RANGES: Mapping[str, _Range] = {
    "mask_threshold": _RATIO,
    "mask_threshold_min": _RATIO,
    "mask_threshold_max": _RATIO,
    "padding_percentage": _Range(0, 4),
    "adaptive_padding_factor": _Range(1, 10),
    "edge_refinement_radius": _Range(1, 64),
    "edge_refinement_eps": _Range(0, 1, above_low=True),
    "min_object_coverage": _RATIO,
    "max_object_coverage": _RATIO,
    "multi_scale_factors": _Range(0.25, 2),
    "alpha_floor": _Range(0, 0.25),
    "output_width_px": _SIDE_PX,
    "output_height_px": _SIDE_PX,
    "png_compression_level": _Range(0, 9),
    "processing_timeout": _Range(0, above_low=True),
}
QUANTIZATION_BITS = (0, 8, 16)
MAX_SCALE_FACTORS = 5
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
FIELDS: Mapping[str, FieldDescriptor] = pb.RemovalOptions.DESCRIPTOR.fields_by_name


def options_to_proto(options: Mapping[str, object]) -> pb.RemovalOptions:
    """The message for these options.

    Only what one value shows is checked here; contradictions between options, and names of presets and models, are the
    server's to judge because they depend on its defaults.

    Raises:
        CutoutError: INVALID_OPTIONS, with one violation for each wrong option.
    """
    message = pb.RemovalOptions()
    violations = []
    for name, value in options.items():
        try:
            _assign(message, name, value)
        except _WrongValueError as error:
            violations.append(FieldViolation(name, str(error)))
    if violations:
        raise invalid_options(violations)
    return message


def options_from_proto(message: pb.RemovalOptions) -> Options:
    """The options that a message sets, `processing_timeout` in seconds."""
    options: dict[str, object] = {}
    for field, value in message.ListFields():
        if field.enum_type is not None:
            options[field.name] = enum_name(field.enum_type, value)
        elif field.name == "multi_scale_factors":
            options[field.name] = tuple(value)
        elif field.name == "region_of_interest":
            options[field.name] = Box(value.left_px, value.top_px, value.width_px, value.height_px)
        elif field.name == "processing_timeout":
            options[field.name] = value.ToTimedelta().total_seconds()
        else:
            options[field.name] = value
    return cast("Options", options)


def enum_name(enum: EnumDescriptor, number: int) -> str | None:
    """The value's name in lower case without the enum's prefix; None for the unset value.

    A number that is newer than this library comes back as its digits.
    """
    if number == 0:
        return None
    value = enum.values_by_number.get(number)
    return str(number) if value is None else _short(enum, value.name)


def enum_names(enum: EnumDescriptor) -> tuple[str, ...]:
    """All names that `enum_name` gives, in the order of the proto."""
    return tuple(_short(enum, value.name) for value in enum.values if value.number != 0)


def suggest(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...?' when something known is spelt nearly like `name`, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _prefix(enum: EnumDescriptor) -> str:
    unspecified: str = enum.values_by_number[0].name
    return unspecified.removesuffix("UNSPECIFIED")


def _short(enum: EnumDescriptor, name: str) -> str:
    return name.removeprefix(_prefix(enum)).lower()


def _assign(message: pb.RemovalOptions, name: str, value: object) -> None:
    field = FIELDS.get(name)
    if field is None:
        raise _WrongValueError(f"no such option{suggest(name, list(FIELDS))}")
    if field.enum_type is not None:
        setattr(message, name, _enum_number(field.enum_type, value))
    elif name == "multi_scale_factors":
        message.multi_scale_factors.extend(_scale_factors(value))
    elif name == "region_of_interest":
        message.region_of_interest.CopyFrom(_box(value))
    elif name == "processing_timeout":
        seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else value
        message.processing_timeout.FromTimedelta(datetime.timedelta(seconds=_float(name, seconds)))
    elif field.type == FieldDescriptor.TYPE_BOOL:
        setattr(message, name, _bool(value))
    elif field.type == FieldDescriptor.TYPE_INT32:
        setattr(message, name, _int(name, value))
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        setattr(message, name, _float(name, value))
    else:
        setattr(message, name, _text(name, value))


def _enum_number(enum: EnumDescriptor, value: object) -> int:
    names = enum_names(enum)
    if not isinstance(value, str) or value not in names:
        raise _WrongValueError(f"{value!r} is not one of {', '.join(names)}{suggest(str(value), names)}")
    number: int = enum.values_by_name[_prefix(enum) + value.upper()].number
    return number


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _WrongValueError(f"must be True or False, not {value!r}")
    return value


def _int(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _WrongValueError(f"must be a whole number, not {value!r}")
    number = int(value)
    if name == "mask_quantization_bits":
        if number not in QUANTIZATION_BITS:
            raise _WrongValueError(f"must be one of {', '.join(map(str, QUANTIZATION_BITS))}, not {number}")
    elif number not in RANGES[name]:
        raise _WrongValueError(f"must be {RANGES[name]}, not {number}")
    return number


def _float(name: str, value: object) -> float:
    number = _finite(value)
    if number not in RANGES[name]:
        raise _WrongValueError(f"must be {RANGES[name]}, not {number:g}")
    return number


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _WrongValueError(f"must be a number, not {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise _WrongValueError(f"must be finite, not {number}")
    return number


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _WrongValueError(f"must be text, not {value!r}")
    if name == "background_color" and not _COLOR.fullmatch(value):
        raise _WrongValueError(f'must look like "#RRGGBB", not {value!r}')
    return value


def _scale_factors(value: object) -> list[float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not 1 <= len(value) <= MAX_SCALE_FACTORS:
        raise _WrongValueError(f"must be 1 to {MAX_SCALE_FACTORS} numbers, not {value!r}")
    return [_float("multi_scale_factors", factor) for factor in value]


def _box(value: object) -> pb.Box:
    sides = (value.left_px, value.top_px, value.width_px, value.height_px) if isinstance(value, Box) else value
    if not isinstance(sides, tuple) or len(sides) != len(pb.Box.DESCRIPTOR.fields):
        raise _WrongValueError(f"must be (left, top, width, height), not {value!r}")
    left, top, width, height = (_finite(side) for side in sides)
    if width < 0 or height < 0:
        raise _WrongValueError(f"width and height must be at least 0, not {width:g} x {height:g}")
    return pb.Box(left_px=left, top_px=top, width_px=width, height_px=height)
