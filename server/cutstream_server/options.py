"""The options of one image: types, ranges, defaults and precedence. `docs/options.md` is generated from this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cutstream_server.errors import FieldViolation, InvalidOptionsError

Ratio = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=4096)]
ScaleFactor = Annotated[float, Field(ge=0.25, le=2)]

OptionValues = Mapping[str, Any]
"""Some options by name: those that one level of the precedence sets."""


class Region(BaseModel):
    """A rectangle in continuous source pixels, far edges exclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    left_px: float
    top_px: float
    width_px: float = Field(gt=0)
    height_px: float = Field(gt=0)


class Options(BaseModel):
    """What is done to one image; names are those of `RemovalOptions` in the API, and in upper case of the environment.

    Lengths are in pixels, thresholds and alphas in 0..1, times in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str | None = Field(None, description="Framing of a 3D pipeline by name; explicit options win over it.")
    profile: Literal["fast", "balanced", "quality"] = Field("balanced", description="How much work goes into quality.")
    model: str = Field("isnet", description="Model of the repository that segments.")

    mask_threshold: Ratio = Field(
        0.8, description="Alpha above which a pixel is object when the box is taken; clamped to the two bounds below."
    )
    mask_threshold_min: Ratio = Field(0.5, description="Lower bound of the threshold used.")
    mask_threshold_max: Ratio = Field(0.95, description="Upper bound of the threshold used.")
    use_adaptive_threshold: bool = Field(
        False, description="Choose the threshold from the mask's histogram (Otsu), clamped to the bounds."
    )
    mask_quantization_bits: Literal[0, 8, 16] = Field(0, description="Round the mask to so many bits; 0 keeps float.")
    enable_antialiasing: bool = Field(True, description="Widen the resampling kernel with the reduction.")
    interpolation_mode: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bilinear", description="Kernel of the one resampling from source to cutout."
    )
    padding_percentage: float = Field(
        0.2, ge=0, le=4, description="Space around the object: crop side = long side of its box * (1 + p)."
    )
    use_smart_padding: bool = Field(
        True, description="Centre on the centre of mass as far as the margins allow, instead of on the box."
    )
    adaptive_padding_factor: float = Field(
        1.5, ge=1, le=10, description="Factor on the short axis' margin of boxes longer than 1.5 times their width."
    )
    enable_edge_refinement: bool = Field(False, description="Refine the mask's edge by the colours beside it.")
    edge_refinement_radius: int = Field(
        5, ge=1, le=64, description="Radius of the refinement's window in pixels of a grid with a long side of 1024."
    )
    edge_refinement_eps: float = Field(
        0.001, gt=0, le=1, description="Regularisation of the refinement: squared colour differences, channels in 0..1."
    )
    min_object_coverage: Ratio = Field(0.05, description="Smallest share of the image that validates.")
    max_object_coverage: Ratio = Field(0.95, description="Largest share of the image that validates.")
    enable_quality_metrics: bool = Field(True, description="Measure the mask; false leaves durations and validation.")
    enable_multi_scale: bool = Field(False, description="Run the network at several sizes and take the median.")
    multi_scale_factors: tuple[ScaleFactor, ...] = Field(
        (0.8, 1.0, 1.2), min_length=1, max_length=5, description="These sizes, as factors of the network's own."
    )
    object_validation: Literal["flag", "reject", "off"] = Field(
        "flag", description="What is done about objects that are too small or too large."
    )
    alpha_floor: float = Field(
        0.01, ge=0, le=0.25, description="Alpha below it becomes 0 and above 1 - it becomes 1; 0 keeps all."
    )

    framing: Literal["object_crop", "full"] = Field("object_crop", description="Which part of the source is shown.")
    output_width_px: Side | None = Field(
        None, description="Width of the cutout; alone it means a square. Unset: 518, or the source's with framing full."
    )
    output_height_px: Side | None = Field(None, description="Height of the cutout, likewise.")
    size_mode: Literal["fixed", "native", "longest_at_most"] = Field(
        "fixed", description="How the cutout's size follows from the output size and the crop."
    )
    output_format: Literal["png", "webp", "raw"] = Field("png", description="File format of the cutout.")
    channels: Literal["rgba", "alpha", "rgb"] = Field("rgba", description="Channels of the cutout.")
    sample_type: Literal["uint8", "uint16", "float32"] = Field("uint8", description="Type of one sample.")
    alpha_mode: Literal["straight", "premultiplied"] = Field("straight", description="Straight or premultiplied RGBA.")
    background_color: str | None = Field(
        None, pattern="^#[0-9A-Fa-f]{6}$", description="Background of channels rgb as #RRGGBB. Unset: #000000."
    )
    estimate_foreground: bool = Field(
        True, description="Replace the colours of soft pixels by an estimate of the foreground's own."
    )
    png_compression_level: int = Field(1, ge=0, le=9, description="Effort of the PNG encoder: 0 none, 9 smallest.")
    input_alpha: Literal["use", "ignore"] = Field("use", description="Use the input's transparency as the mask.")
    keep_components: Literal["all", "largest"] = Field("all", description="Which connected parts are the object.")
    region_of_interest: Region | None = Field(None, description="Alpha outside this part of the source becomes 0.")
    content: Literal["cutout_and_metrics", "metrics_only"] = Field(
        "cutout_and_metrics", description="What the answer holds."
    )
    processing_timeout: float | None = Field(
        None, gt=0, description="Seconds for one image. Unset: the server's CUTSTREAM_IMAGE_TIMEOUT_SECONDS."
    )


def _contradictions(options: Options) -> Sequence[FieldViolation]:
    """Lists the pairs of valid fields that cannot hold together."""
    rules = (
        (
            options.mask_threshold_min > options.mask_threshold_max,
            "mask_threshold_min",
            f"{options.mask_threshold_min} is above mask_threshold_max {options.mask_threshold_max}",
        ),
        (
            options.min_object_coverage > options.max_object_coverage,
            "min_object_coverage",
            f"{options.min_object_coverage} is above max_object_coverage {options.max_object_coverage}",
        ),
        (
            options.sample_type == "uint16" and options.output_format == "webp",
            "sample_type",
            "WebP holds 8 bits a sample; use png or raw for uint16",
        ),
        (
            options.sample_type == "float32" and options.output_format != "raw",
            "sample_type",
            "float32 needs output_format raw",
        ),
        (
            options.channels == "alpha" and options.output_format == "webp",
            "channels",
            "WebP has no single channel; use png or raw for alpha",
        ),
        (
            options.alpha_mode == "premultiplied" and options.channels != "rgba",
            "alpha_mode",
            "premultiplied needs channels rgba",
        ),
        (
            options.background_color is not None and options.channels != "rgb",
            "background_color",
            "a background needs channels rgb",
        ),
    )
    return [FieldViolation(field, description) for broken, field, description in rules if broken]


OUTPUT_SIDES = ("output_width_px", "output_height_px")
# 37 patches of 14 pixels: the input side of the DINOv2 encoders that most image-to-3D models begin with.
DEFAULT_OUTPUT_SIDE_PX = 518
DEFAULT_BACKGROUND = "#000000"

PROFILES: Mapping[str, OptionValues] = {
    "fast": {"estimate_foreground": False},
    "balanced": {"estimate_foreground": True},
    "quality": {"estimate_foreground": True, "enable_edge_refinement": True, "interpolation_mode": "bicubic"},
}
"""What a profile sets, unless an explicit option or a preset of the same level does."""


def parse_options(values: OptionValues, *, path: str = "") -> Options:
    """Checks complete option values.

    Args:
        values: options by name; what is left out takes its default.
        path: where the fields stand in the request, such as "options.", for the violations.

    Raises:
        InvalidOptionsError: with every wrong field.
    """
    violations = []
    try:
        options = Options.model_validate(values)
    except ValidationError as error:
        violations = violations_of(error)
        wrong = {finding["loc"][0] for finding in error.errors()}
        options = Options.model_validate({name: value for name, value in values.items() if name not in wrong})
    violations += _contradictions(options)
    if violations:
        raise InvalidOptionsError([FieldViolation(path + v.field, v.description) for v in violations])
    return options


def violations_of(error: ValidationError) -> list[FieldViolation]:
    """Turns pydantic's findings into violations that name the field, the rule and the value given."""
    violations = []
    for finding in error.errors(include_url=False):
        field = ".".join(str(part) for part in finding["loc"])
        shown = repr(finding["input"])
        violations.append(FieldViolation(field, f"{finding['msg']} (got {shown[:80]})"))
    return violations


class Preset(Protocol):
    """What the resolver needs to know of a framing preset."""

    @property
    def options(self) -> OptionValues:
        """What it sets, by name."""

    @property
    def background(self) -> str | None:
        """Its "#RRGGBB" under channels rgb, if it has one."""


class OptionResolver:
    """Finds the options of an image from the levels of the precedence, field by field, the first that is set wins:
    the image's own, the stream's, the server's environment, the defaults of `Options`.

    Inside one level an explicit option beats the preset, and the preset beats the profile.

    Args:
        presets: the framing presets by name.
        environment: the options that the environment sets.
        image_timeout: seconds for an image that sets no `processing_timeout`, and the most that one may set.
    """

    def __init__(self, presets: Mapping[str, Preset], environment: OptionValues, image_timeout: float) -> None:
        self._presets = presets
        self._environment = self._flatten(environment)
        self._image_timeout = image_timeout

    def stream_level(self, explicit: OptionValues, *, path: str) -> dict[str, Any]:
        """Checks the options of a stream and gives what this level sets, for `resolve`.

        Raises:
            InvalidOptionsError: with every wrong field; fields are named from `path` on.
        """
        level = self._flatten(explicit)
        self._complete({**self._environment, **level}, explicit, path=path)
        return level

    def resolve(self, image: OptionValues, stream: OptionValues | None = None, *, path: str = "options.") -> Options:
        """Gives the options used for one image, nothing left to default but what depends on the image.

        Args:
            image: options that the image sets, by name.
            stream: the level that `stream_level` gave.
            path: where the image's fields stand in the request, for the violations.

        Raises:
            InvalidOptionsError: with every wrong field.
        """
        return self._complete({**self._environment, **(stream or {}), **self._flatten(image)}, image, path=path)

    def _complete(self, values: OptionValues, explicit: OptionValues, *, path: str) -> Options:
        options = self._parse(values, explicit, path=path)
        filled: dict[str, Any] = {"processing_timeout": options.processing_timeout or self._image_timeout}
        if options.framing == "object_crop" and options.output_width_px is None:
            filled |= dict.fromkeys(OUTPUT_SIDES, DEFAULT_OUTPUT_SIDE_PX)
        if options.channels == "rgb" and options.background_color is None:
            preset = self._presets.get(options.preset or "")
            filled["background_color"] = (preset.background if preset else None) or DEFAULT_BACKGROUND
        return options.model_copy(update=filled)

    def _parse(self, values: OptionValues, explicit: OptionValues, *, path: str) -> Options:
        violations: list[FieldViolation] = []
        name = values.get("preset")
        if name is not None and name not in self._presets:
            known = ", ".join(sorted(self._presets)) or "none"
            violations.append(FieldViolation(path + "preset", f"{name!r} is unknown; there are: {known}"))
        timeout, limit = values.get("processing_timeout"), self._image_timeout
        if timeout is not None and timeout > limit:
            text = f"{timeout:g} s is above the server's limit of {limit:g} s"
            violations.append(FieldViolation(path + "processing_timeout", text))
        try:
            options = parse_options(values, path=path)
        except InvalidOptionsError as error:
            # The side that a square was completed with is not the caller's.
            completed = {path + side for side in _square(explicit) if side not in explicit}
            violations += [violation for violation in error.violations if violation.field not in completed]
            raise InvalidOptionsError(violations) from error
        if violations:
            raise InvalidOptionsError(violations)
        return options

    def _flatten(self, explicit: OptionValues) -> dict[str, Any]:
        """Merges what one level sets: explicit options over its preset over its profile."""
        preset = self._presets.get(explicit.get("preset") or "")
        profile = PROFILES.get(str(explicit.get("profile")), {})
        return {**profile, **(preset.options if preset else {}), **explicit, **_square(explicit)}


def _square(explicit: OptionValues) -> dict[str, Any]:
    """Completes a size of which one side alone is given: it means a square, whatever a lower level says."""
    sides = [explicit[side] for side in OUTPUT_SIDES if explicit.get(side) is not None]
    return dict.fromkeys(OUTPUT_SIDES, sides[0]) if len(sides) == 1 else {}
