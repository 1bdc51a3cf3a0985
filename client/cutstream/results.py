"""What comes back: frozen dataclasses that mirror the answers of `cutstream.proto` in plain Python types.

Lengths end in their unit, ratios are 0 to 1, durations are seconds; None means that the server did not say.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cutstream.extras import import_numpy, import_pillow
from cutstream.geometry import Box, CropBox
from cutstream.options import Options

if TYPE_CHECKING:
    import os

    import numpy
    import PIL.Image


@dataclass(frozen=True)
class Centering:
    """Where the object's centre of mass sits in the crop."""

    offset_x_px: float | None = None
    """Centre of mass minus the crop's centre, in source pixels; right is positive."""
    offset_y_px: float | None = None
    """The same downwards."""
    offset_x_ratio: float | None = None
    """The same over the crop's width."""
    offset_y_ratio: float | None = None
    """The same over the crop's height."""
    well_centered: bool | None = None
    """Whether both offsets are at most a tenth of the smaller crop side."""
    score: float | None = None
    """1 in the centre, 0 at that limit and beyond."""


@dataclass(frozen=True)
class StageDurations:
    """Seconds spent in each stage on the server; their sum is below the total, which also counts waiting."""

    decode_seconds: float | None = None
    queue_seconds: float | None = None
    segmentation_seconds: float | None = None
    refinement_seconds: float | None = None
    framing_seconds: float | None = None
    encoding_seconds: float | None = None
    total_seconds: float | None = None


@dataclass(frozen=True)
class Metrics:
    """What was measured on one image; the definitions stand in the comments of `cutstream.proto`."""

    mask_confidence_mean: float | None = None
    mask_confidence_std: float | None = None
    alpha_coverage: float | None = None
    soft_edge_ratio: float | None = None
    object_coverage_ratio: float | None = None
    bounding_box_area_ratio: float | None = None
    edge_sharpness: float | None = None
    aspect_ratio: float | None = None
    threshold: float | None = None
    otsu_threshold: float | None = None
    component_count: int | None = None
    foreground_box: Box | None = None
    touches_border: bool | None = None
    cropped_alpha_ratio: float | None = None
    validation: Literal["ok", "no_object", "too_small", "too_large"] | None = None
    centering: Centering | None = None
    confidence: float | None = None
    alpha_source: Literal["model", "input"] | None = None
    model_name: str = ""
    model_version: str = ""
    source_width_px: int | None = None
    source_height_px: int | None = None
    source_format: str = ""
    exif_orientation: int | None = None
    effective_options: Options = field(default_factory=Options)
    durations: StageDurations | None = None


_SAMPLES_PER_PIXEL: Mapping[str, int] = {"rgba": 4, "rgb": 3, "alpha": 1}
_NUMPY_TYPES: Mapping[str, str] = {"uint8": "u1", "uint16": "<u2", "float32": "<f4"}
_PILLOW_MODES: Mapping[tuple[str, str], str] = {
    ("rgba", "uint8"): "RGBA",
    ("rgb", "uint8"): "RGB",
    ("alpha", "uint8"): "L",
    ("alpha", "uint16"): "I;16",
    ("alpha", "float32"): "F",
}
_RAW = "application/octet-stream"
_SUFFIXES: Mapping[str, str] = {"image/png": ".png", "image/webp": ".webp", _RAW: ".raw"}
_PNG_HEADER_BYTES = 26
_PNG_DEPTH_AT, _PNG_COLOR_TYPE_AT = 24, 25
_PNG_DEPTH_16, _PNG_GREY = 16, 0


@dataclass(frozen=True)
class Cutout:
    """The object of one image without its background.

    Example:
        >>> cutout = Cutout(b"...", "image/png", 518, 518, image_id="cat.jpg")
        >>> cutout.image_id, cutout.suffix
        ('cat.jpg', '.png')
    """

    data: bytes = field(repr=False)
    """The encoded image exactly as received; empty with content="metrics_only"."""
    media_type: str
    """"image/png", "image/webp", or "application/octet-stream" for output_format="raw"."""
    width_px: int
    height_px: int
    crop: CropBox | None = None
    """The part of the source that it shows."""
    metrics: Metrics = field(default_factory=Metrics)
    image_id: str = ""

    @property
    def suffix(self) -> str:
        """The usual end of a file name for this media type: ".png", ".webp", ".raw"."""
        return _SUFFIXES.get(self.media_type, ".bin")

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The cutout as a PIL image, decoded on first use.

        Raises:
            ImportError: Pillow is not installed (the extra `images`).
            ValueError: there are no pixels, or Pillow has no mode that holds them; `array` has them all.
        """
        pillow = import_pillow()
        if self.media_type != _RAW:
            return self._decode(pillow)
        channels, sample_type = self._raw_layout()
        mode = _PILLOW_MODES.get((channels, sample_type))
        if mode is None:
            raise ValueError(f"Pillow has no mode for {channels} of {sample_type}: use .array")
        image: PIL.Image.Image = pillow.frombytes(mode, (self.width_px, self.height_px), self.data)
        return image

    @cached_property
    def array(self) -> numpy.ndarray[Any, Any]:
        """The cutout as (H, W, C) samples, or (H, W) for channels="alpha"; uint8, uint16 or float32; read-only.

        Raises:
            ImportError: numpy or Pillow is not installed (the extra `images`).
            ValueError: there are no pixels, or they are a 16-bit colour PNG.
        """
        np = import_numpy()
        if self.media_type == _RAW:
            channels, sample_type = self._raw_layout()
            shape = (self.height_px, self.width_px, _SAMPLES_PER_PIXEL[channels])
            samples = np.frombuffer(self.data, dtype=_NUMPY_TYPES[sample_type])
            array = samples.reshape(shape if channels != "alpha" else shape[:2])
        else:
            array = np.asarray(self.image)
        return cast("numpy.ndarray[Any, Any]", array)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes `data` as it is, whatever the path's suffix; OSError as from any file, ValueError without pixels."""
        self._require_pixels()
        written = Path(path)
        written.write_bytes(self.data)
        return written

    def _decode(self, pillow: Any) -> PIL.Image.Image:
        self._require_pixels()
        if self.media_type == "image/png" and _is_16_bit_color(self.data[:_PNG_HEADER_BYTES]):
            # Pillow would drop the lower 8 bits without a word.
            raise ValueError("Pillow cannot read 16-bit colour from PNG: save it, or ask for output_format='raw'")
        image: PIL.Image.Image = pillow.open(io.BytesIO(self.data))
        image.load()
        return image

    def _raw_layout(self) -> tuple[str, str]:
        self._require_pixels()
        effective = self.metrics.effective_options
        try:
            return effective["channels"], effective["sample_type"]
        except KeyError as error:
            raise ValueError("the answer does not say how its raw samples are laid out") from error

    def _require_pixels(self) -> None:
        if not self.data:
            raise ValueError("this cutout holds metrics only")


def _is_16_bit_color(header: bytes) -> bool:
    return (
        len(header) == _PNG_HEADER_BYTES
        and header[_PNG_DEPTH_AT] == _PNG_DEPTH_16
        and header[_PNG_COLOR_TYPE_AT] != _PNG_GREY
    )


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server offers."""

    name: str
    version: str
    """Version in use; empty while it is not ready."""
    state: Literal["ready", "unavailable", "loading", "unloading", "failed"] | None
    licence: str = ""
    """Licence of its weights; empty where the server does not know."""
    commercial_use: bool | None = None
    """Whether the licence allows that."""
    side_px: int = 0
    """Side of the square that images are stretched to for it; 0 from servers that do not tell."""
    other_sides: bool = False
    """Whether it takes other sides too, as multi-scale asks for."""


@dataclass(frozen=True)
class PresetInfo:
    """A framing preset."""

    name: str
    description: str
    options: Options
    """What the preset sets."""


@dataclass(frozen=True)
class ServerLimits:
    """Limits on requests."""

    max_image_bytes: int
    max_image_pixels: int
    max_in_flight: int
    """Images in work at once, over all calls."""
    max_bytes_in_flight: int
    """Bytes of encoded images held at once, over all calls."""
    max_chunk_bytes: int
    max_unary_cutout_bytes: int
    image_timeout_seconds: float | None
    upload_timeout_seconds: float | None
    """Longest pause in the middle of an image on a stream."""


@dataclass(frozen=True)
class TritonInfo:
    """How the server talks to Triton."""

    embedded: bool
    """Whether the server runs its own Triton."""
    ready: bool
    """Whether the last inference or probe was answered."""
    transport: str


@dataclass(frozen=True)
class ServerInfo:
    """What a server is, can do and allows."""

    version: str
    models: tuple[ModelInfo, ...]
    default_options: Options
    """Options used where a request sets none."""
    presets: tuple[PresetInfo, ...]
    limits: ServerLimits
    triton: TritonInfo
    input_formats: tuple[str, ...]
