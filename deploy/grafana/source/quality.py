"""What the network finds, over time."""

from __future__ import annotations

from typing import Final

from deploy.grafana.source.panels import Dashboard, Panel
from deploy.grafana.source.queries import RANGE, quantiles, rate

NO_OBJECT: Final = 'reason=~"NO_OBJECT|OBJECT_TOO_SMALL|OBJECT_TOO_LARGE"'
COVERAGE: Final = "cutstream_object_coverage"


def coverage_up_to(bound: str) -> str:
    """Share of objects that cover at most so much; the bound is one of the histogram's."""
    matcher = f'le="{bound}"'
    return f"{rate(f'{COVERAGE}_bucket', matchers=matcher)} / {rate(f'{COVERAGE}_count')}"


def drift(metric: str) -> dict[str, str]:
    """A measurement's mean, now and a week before."""
    total, count = f"{metric}_sum{{$filter}}", f"{metric}_count{{$filter}}"
    return {
        legend: f"sum by (model) (rate({total}[1h]{offset})) / sum by (model) (rate({count}[1h]{offset}))"
        for legend, offset in (("{{model}}", ""), ("{{model}}, a week before", " offset 1w"))
    }


def measurement(name: str, metric: str, note: str) -> list[Panel]:
    """The three views of one measurement."""
    return [
        Panel(name, "none", quantiles(metric, (0.1, 0.5, 0.9)), note=note, maximum=1, exemplars=True),
        Panel(
            f"{name}: mean of an hour", "none", drift(metric), maximum=1, note="Apart for hours: look for the cause."
        ),
        Panel(f"{name}: distribution", "none", {"": rate(f"{metric}_bucket", "le")}, "heatmap"),
    ]


QUALITY = Dashboard(
    uid="cutstream-quality",
    title="Cutstream: quality",
    description="What the network finds, over time: a change of pictures or of the model shows here first.",
    variables={"model": ("cutstream_mask_confidence_count", "model")},
    rows={
        "Objects": [
            Panel(
                "Images without a usable object",
                "percentunit",
                {
                    "{{reason}}": "sum by (reason) (rate(cutstream_images_total{" + NO_OBJECT + f"}}[{RANGE}])) "
                    f"/ on () group_left () sum(rate(cutstream_images_total[{RANGE}]))"
                },
                width=12,
                note="Of all images. Too small and too large fail only where object_validation is reject.",
            ),
            Panel(
                "Objects outside 5 to 95 percent of the image",
                "percentunit",
                {
                    "smaller": coverage_up_to("0.05"),
                    "larger": f"1 - {coverage_up_to('0.95')}",
                },
                width=12,
                note="The default limits of the validation; flagged in the metrics of each image.",
            ),
        ],
        "Mask confidence": measurement(
            "Mask confidence", "cutstream_mask_confidence", "How likely the mask is right, as the service estimates it."
        ),
        "Object coverage": measurement(
            "Object coverage", "cutstream_object_coverage", "Share of the image above the threshold."
        ),
        "Centring": measurement(
            "Centring score", "cutstream_centering_score", "1: the centre of mass is the cutout's centre."
        ),
    },
)
