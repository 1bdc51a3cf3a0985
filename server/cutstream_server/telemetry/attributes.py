"""What a span says about an image: never anything of its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cutstream_server.options import Options

if TYPE_CHECKING:
    from cutstream_server.report import ImageReport

MAX_TEXT: Final = 300
"""A caller's text, such as the name of a model that does not exist, may be as long as a message; here it is cut."""


def image_attributes(report: ImageReport, defaults: Options) -> dict[str, Any]:
    """Gives what is known about an image, and its options where they differ from the defaults."""
    mask = report.mask
    source = report.source
    attributes: dict[str, Any] = {
        "cutstream.model.name": report.model_name or None,
        "cutstream.model.version": report.model_version or None,
        "cutstream.alpha_source": report.alpha_source,
        "cutstream.validation": report.validation.value if report.validation else None,
        "cutstream.threshold": report.threshold.used if report.threshold else None,
        "cutstream.image.format": source.format if source else None,
        "cutstream.image.width_px": source.width_px if source else None,
        "cutstream.image.height_px": source.height_px if source else None,
        "cutstream.mask.confidence": report.confidence,
        "cutstream.mask.agreement": report.agreement,
        "cutstream.object.coverage": mask.object_coverage_ratio if mask else None,
        "cutstream.centering.score": mask.centering.score if mask and mask.centering else None,
    }
    known = {name: value for name, value in attributes.items() if value is not None}
    return known | _changed(report.options, defaults)


def _changed(options: Options, defaults: Options) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in Options.model_fields:
        value = getattr(options, name)
        if value != getattr(defaults, name):
            simple = isinstance(value, (bool, int, float, tuple))
            changed[f"cutstream.options.{name}"] = value if simple else str(value)[:MAX_TEXT]
    return changed
