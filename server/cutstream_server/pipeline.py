"""One image from bytes to cutout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from cutstream_server.budget import Budget
from cutstream_server.errors import NoObjectError, ObjectTooLargeError, ObjectTooSmallError
from cutstream_server.imaging.confidence import estimate_confidence
from cutstream_server.imaging.decode import SourceImage
from cutstream_server.imaging.encode import encode, media_type
from cutstream_server.imaging.foreground import compose_foreground
from cutstream_server.imaging.framing import centre_of_mass, crop_box, foreground_box, full_frame
from cutstream_server.imaging.geometry import Box, CropBox, Point, Size
from cutstream_server.imaging.header import Header, ImageLimits, read_header
from cutstream_server.imaging.layout import Layout, SizeMode, lay_out
from cutstream_server.imaging.mask import (
    AlphaMap,
    Threshold,
    apply_alpha_floor,
    choose_threshold,
    keep_largest_component,
    limit_to_region,
    object_pixels,
    quantize,
)
from cutstream_server.imaging.placing import compose, place
from cutstream_server.imaging.presets import PRESETS_BY_NAME, Preset
from cutstream_server.imaging.quality import ObjectValidation, measure_mask, validate_object
from cutstream_server.imaging.refinement import refine_edges
from cutstream_server.imaging.region import sample_region
from cutstream_server.imaging.resample import Floats, resample_premultiplied, resize_map
from cutstream_server.options import Options
from cutstream_server.report import Cutout, ImageReport, SourceInfo, ThresholdInfo
from cutstream_server.segmentation.segmenter import Segmenter
from cutstream_server.telemetry.images import stage_span
from cutstream_server.workers import Workers

# The grid of all metrics: long side of the network's own input.
METRICS_LONG_SIDE_PX: Final = 1024
# What makes sense for a predicted mask only.
MASK_ONLY_OPTIONS: Final = ("estimate_foreground", "enable_edge_refinement", "enable_multi_scale")
# In map pixels: interpolating between them moves the threshold's outline, and with it the crop, by less than one.
REGION_MARGIN: Final = 2


class Pipeline:
    """Makes cutouts.

    Args:
        segmenter: finds the alpha of images that bring none.
        workers: where the CPU work is done.
        decode: makes pixels of a file whose header is within the limits; runs in a worker.
        limits: what an image's header may claim.
        decoded: most images that are held decoded at once, and most pixels; the bound of the pipeline's memory.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        workers: Workers,
        decode: Callable[[bytes, Header], SourceImage],
        *,
        limits: ImageLimits,
        decoded: Budget,
    ) -> None:
        self._segmenter = segmenter
        self._workers = workers
        self._decode = decode
        self._limits = limits
        self._decoded = decoded

    async def remove(self, data: bytes, report: ImageReport, *, time_left: float) -> Cutout:
        """Makes the cutout of one image.

        Args:
            data: the encoded image.
            report: holds the options; filled in as far as the work gets.
            time_left: seconds, for Triton to know; the caller ends the work when they are over.

        Raises:
            CutstreamError: see the API's table of errors.
        """
        run = self._workers.run
        with stage_span("header"):
            header = await run(report, "decode", read_header, data, self._limits)
        with report.waiting():
            place = await self._decoded.take(header.pixels)
        try:
            source = await run(report, "decode", self._decode, data, header)
            report.source = SourceInfo(source.width, source.height, source.format, source.exif_orientation)
            mask = await self._mask_of(source, report, time_left)
            mask = await run(report, "refinement", _refine, mask, source, report.options)
            with stage_span("framing"):
                frame = await run(report, "framing", _frame, mask, source, report)
                wanted = report.options.content == "cutout_and_metrics"
                composed = await run(report, "framing", frame.compose) if wanted else None
            image = b""
            if composed is not None:
                image = await run(report, "encoding", _encode, *composed, report.options)
            return Cutout(image, media_type(report.options.output_format), *frame.layout.size, frame.layout.crop)
        finally:
            place.release()

    async def _mask_of(self, source: SourceImage, report: ImageReport, time_left: float) -> AlphaMap:
        """The image's own transparency, unless it has none or it is to be ignored; else what the network sees."""
        if source.alpha is not None and report.options.input_alpha == "use":
            report.alpha_source = "input"
            # Its edge and its colours are the author's: they are not ours to improve.
            report.options = report.options.model_copy(update=dict.fromkeys(MASK_ONLY_OPTIONS, False))
            return source.alpha
        return await self._segmenter.segment(source.rgb, report, time_left=time_left)


def _size(source: SourceImage) -> Size:
    return Size(source.width, source.height)


def _refine(mask: AlphaMap, source: SourceImage, options: Options) -> AlphaMap:
    """Corrects and cleans the mask on its own grid: edges, floor, region, components, bits."""
    if options.enable_edge_refinement:
        mask = refine_edges(mask, source.rgb, radius=options.edge_refinement_radius, eps=options.edge_refinement_eps)
    mask = apply_alpha_floor(mask, options.alpha_floor)
    region = options.region_of_interest
    if region is not None:
        box = Box(region.left_px, region.top_px, region.left_px + region.width_px, region.top_px + region.height_px)
        mask = limit_to_region(mask, box, _size(source))
    if options.keep_components == "largest":
        mask = keep_largest_component(mask, _threshold(mask, options, is_input=mask is source.alpha).used)
    return quantize(mask, options.mask_quantization_bits)


@dataclass(frozen=True)
class _Frame:
    """The cutout's layout, and what resamples it once, from source pixels: straight colour and alpha."""

    layout: Layout
    compose: Callable[[], tuple[Floats, Floats]]


def _frame(mask: AlphaMap, source: SourceImage, report: ImageReport) -> _Frame:
    """Finds the object and lays the cutout out around it, measures both, and validates the object's size."""
    options = report.options
    is_input = report.alpha_source == "input"
    threshold = _threshold(mask, options, is_input=is_input)
    report.threshold = _threshold_info(threshold, options)
    if options.preset is not None and options.framing == "object_crop":
        frame = _frame_by_preset(PRESETS_BY_NAME[options.preset], mask, source, report)
    else:
        frame = _frame_by_padding(mask, threshold.used, source, report)
    _measure(mask, source, frame, report)
    if frame is None:
        raise NoObjectError("nothing in the image is foreground", threshold=report.threshold.used)
    return frame


def _frame_by_padding(mask: AlphaMap, threshold: float, source: SourceImage, report: ImageReport) -> _Frame | None:
    """Crops around the object's box; None when nothing is above the threshold."""
    options, size = report.options, _size(source)
    coarse_box = foreground_box(mask, threshold, size)
    centre = centre_of_mass(mask, threshold, size)
    if coarse_box is None or centre is None:
        return None
    region = sample_region(mask, size, _crop(coarse_box, centre, size, options), margin=REGION_MARGIN)
    box = region.foreground_box(threshold) or coarse_box
    layout = lay_out(_crop(box, centre, size, options), _wanted_size(size, options), _size_mode(options))
    report.foreground_box = box
    rows, columns = region.alpha.shape
    rgb = source.rgb[region.top : region.top + rows, region.left : region.left + columns]
    return _Frame(
        layout,
        partial(
            compose_foreground if options.estimate_foreground else resample_premultiplied,
            rgb,
            region.alpha,
            region.shift(layout.crop),
            *layout.size,
            interpolation=options.interpolation_mode,
            antialias=options.enable_antialiasing,
        ),
    )


def _frame_by_preset(preset: Preset, mask: AlphaMap, source: SourceImage, report: ImageReport) -> _Frame | None:
    """Crops as the preset's project does; None when nothing is above the threshold."""
    options, size = report.options, _size(source)
    alpha = sample_region(mask, size, full_frame(size)).alpha
    placement = place(preset, alpha, options, input_alpha=report.alpha_source == "input")
    if placement is None:
        return None
    report.threshold = _threshold_info(placement.threshold, options)
    report.foreground_box = placement.box
    layout = Layout(placement.crop, placement.size)
    return _Frame(layout, partial(compose, preset, source.rgb, alpha, placement, options))


def _threshold(mask: AlphaMap, options: Options, *, is_input: bool) -> Threshold:
    return choose_threshold(
        mask,
        fixed=options.mask_threshold,
        adaptive=options.use_adaptive_threshold,
        minimum=options.mask_threshold_min,
        maximum=options.mask_threshold_max,
        input_alpha=is_input,
    )


def _threshold_info(threshold: Threshold, options: Options) -> ThresholdInfo:
    return ThresholdInfo(threshold.used, threshold.otsu if options.enable_quality_metrics else None)


def _crop(box: Box, centre: Point, source: Size, options: Options) -> CropBox:
    if options.framing == "full" and options.output_width_px is None:
        return full_frame(source)
    wanted = _wanted_size(source, options)
    if options.framing == "full":
        return full_frame(source, wanted.width / wanted.height)
    return crop_box(
        box,
        centre,
        padding=options.padding_percentage,
        smart=options.use_smart_padding,
        adaptive_factor=options.adaptive_padding_factor,
        aspect=wanted.width / wanted.height,
    )


def _wanted_size(source: Size, options: Options) -> Size:
    """The output size asked for; only the full frame has none of its own."""
    if options.output_width_px is None or options.output_height_px is None:
        return source
    return Size(options.output_width_px, options.output_height_px)


def _size_mode(options: Options) -> SizeMode:
    return "native" if options.output_width_px is None else options.size_mode


def _measure(mask: AlphaMap, source: SourceImage, frame: _Frame | None, report: ImageReport) -> None:
    """Measures the mask on the metrics' grid and validates the object's size.

    Raises:
        ObjectTooSmallError: when it is too small and the options reject that.
        ObjectTooLargeError: likewise.
    """
    options, threshold = report.options, report.threshold
    assert threshold is not None
    scale = METRICS_LONG_SIDE_PX / max(_size(source))
    alpha = resize_map(mask, max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    if options.enable_quality_metrics:
        report.mask = measure_mask(alpha, threshold.used, _size(source), frame.layout.crop if frame else None)
        report.confidence = estimate_confidence(report.looks) if report.looks else None
    if frame is not None and options.object_validation == "off":
        report.validation = ObjectValidation.OK
        return
    if report.mask is not None:
        coverage = report.mask.object_coverage_ratio
    else:
        coverage = np.count_nonzero(object_pixels(alpha, threshold.used)) / alpha.size
    least, most = options.min_object_coverage, options.max_object_coverage
    report.validation = validate_object(coverage, has_object=frame is not None, minimum=least, maximum=most)
    if options.object_validation != "reject":
        return
    measured = f"the object covers {coverage:.4f} of the image"
    if report.validation is ObjectValidation.TOO_SMALL:
        raise ObjectTooSmallError(f"{measured}, less than {least}", measured=coverage, allowed=least)
    if report.validation is ObjectValidation.TOO_LARGE:
        raise ObjectTooLargeError(f"{measured}, more than {most}", measured=coverage, allowed=most)


def _rgb_of(color: str | None) -> tuple[int, int, int] | None:
    """Reads "#RRGGBB"."""
    if color is None:
        return None
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


def _encode(rgb: Floats, alpha: Floats, options: Options) -> bytes:
    return encode(
        rgb,
        alpha,
        output_format=options.output_format,
        channels=options.channels,
        sample_type=options.sample_type,
        alpha_mode=options.alpha_mode,
        background_color=_rgb_of(options.background_color),
        png_compression_level=options.png_compression_level,
    )
