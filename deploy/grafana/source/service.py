"""Rate, errors and duration of images, where their time goes, and how full the service is."""

from __future__ import annotations

from typing import Final

from deploy.grafana.source.panels import Dashboard, Panel
from deploy.grafana.source.queries import RANGE, mean, quantile, quantiles, rate, share

IMAGES: Final = rate("cutstream_images_total")
FAILED: Final = rate("cutstream_images_total", matchers='outcome="error"')
# Failures that the service answers for; the others are the image's own or the caller's.
OUR_FAULT: Final = 'reason=~"MODEL_UNAVAILABLE|INTERNAL_FAULT|DEADLINE|OVERLOADED"'

SERVICE = Dashboard(
    uid="cutstream-service",
    title="Cutstream: service",
    description="Rate, errors and duration of images, where their time goes, and how full the service is.",
    variables={"instance": ("cutstream_images_in_flight", "instance")},
    rows={
        "Now": [
            Panel(
                "Servers with a Triton that answers",
                "none",
                {"ready": "sum(cutstream_triton_available{$filter})", "running": 'count(up{job="cutstream-server"})'},
                "stat",
                4,
                red_below=1,
            ),
            Panel("Images", "reqps", {"": IMAGES}, "stat", 4),
            Panel(
                "Failures of the service",
                "percentunit",
                {"": share(rate("cutstream_images_total", matchers=OUR_FAULT), IMAGES)},
                "stat",
                4,
                "Share of images that failed for a reason of the service's own. Runbooks: docs/operations.md.",
                red_above=0.01,
            ),
            Panel(
                "95% of images take less than",
                "s",
                {"": quantile(0.95, "cutstream_image_duration_seconds")},
                "stat",
                4,
            ),
            Panel(
                "Places in use",
                "percentunit",
                {"": "sum(cutstream_images_in_flight{$filter}) / sum(cutstream_admission_images_limit{$filter})"},
                "stat",
                4,
                red_above=0.9,
            ),
            Panel(
                "Refused as OVERLOADED",
                "reqps",
                {"": rate("cutstream_admission_rejected_total")},
                "stat",
                4,
                red_above=0.1,
            ),
        ],
        "Rate and errors": [
            Panel(
                "Images by outcome",
                "reqps",
                {"{{outcome}}": rate("cutstream_images_total", "outcome")},
                stacked=True,
            ),
            Panel(
                "Failed images by reason",
                "reqps",
                {"{{reason}}": rate("cutstream_images_total", "reason", 'outcome="error"')},
                stacked=True,
                note="The reasons are those of the API. NO_OBJECT and the IMAGE_ ones are the picture's own.",
            ),
            Panel(
                "Calls by method and status",
                "reqps",
                {
                    "{{rpc_method}} {{rpc_response_status_code}}": rate(
                        "rpc_server_call_duration_seconds_count", "rpc_method, rpc_response_status_code"
                    )
                },
                note="A stream is one call, counted when it ends.",
            ),
        ],
        "Duration": [
            Panel(
                "Time of an image",
                "s",
                quantiles("cutstream_image_duration_seconds"),
                note="From an image's last byte to its outcome, waiting included. The points are single images: click "
                "one for its trace.",
                exemplars=True,
            ),
            Panel(
                "Time of an image by profile, 95%",
                "s",
                {"{{profile}}": quantile(0.95, "cutstream_image_duration_seconds", "profile")},
            ),
            Panel(
                "Distribution of times",
                "s",
                {"": rate("cutstream_image_duration_seconds_bucket", "le")},
                "heatmap",
            ),
        ],
        "Stages": [
            Panel(
                "Mean time in each stage",
                "s",
                {"{{stage}}": mean("cutstream_stage_duration_seconds", "stage")},
                width=12,
                stacked=True,
                note="queue is the wait for a place and for a processor core; segmentation includes Triton's queue.",
            ),
            Panel(
                "Time in each stage, 95%",
                "s",
                {"{{stage}}": quantile(0.95, "cutstream_stage_duration_seconds", "stage")},
                width=12,
            ),
        ],
        "Queue": [
            Panel(
                "Images",
                "none",
                {
                    "in flight": "sum(cutstream_images_in_flight{$filter})",
                    "waiting for a place": "sum(cutstream_images_waiting{$filter})",
                    "limit": "sum(cutstream_admission_images_limit{$filter})",
                },
                note="Streams wait when all places are taken, single calls are refused.",
            ),
            Panel(
                "Encoded bytes",
                "bytes",
                {
                    "in flight": "sum(cutstream_bytes_in_flight{$filter})",
                    "limit": "sum(cutstream_admission_bytes_limit{$filter})",
                },
            ),
            Panel("Open streams", "none", {"{{instance}}": "cutstream_streams_open{$filter}"}),
        ],
        "Processes": [
            Panel(
                "Memory",
                "bytes",
                {"{{instance}}": 'process_resident_memory_bytes{job="cutstream-server",$filter}'},
            ),
            Panel(
                "Processor cores",
                "none",
                {"{{instance}}": f'rate(process_cpu_seconds_total{{job="cutstream-server",$filter}}[{RANGE}])'},
            ),
            Panel(
                "Open files",
                "none",
                {"{{instance}}": 'process_open_fds{job="cutstream-server",$filter}'},
            ),
        ],
    },
)
