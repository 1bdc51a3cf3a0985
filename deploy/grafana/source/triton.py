"""The network's server: its queue, its computing, its GPU, and what the service sees of it."""

from __future__ import annotations

from typing import Final

from deploy.grafana.source.panels import Dashboard, Panel
from deploy.grafana.source.queries import quantiles, rate

MICROSECOND: Final = "1e-6"

TRITON = Dashboard(
    uid="cutstream-triton",
    title="Cutstream: Triton",
    description="The network's server: its queue, its computing, its GPU, and what the service sees of it.",
    variables={"model": ("nv_inference_request_success", "model")},
    rows={
        "As the service sees it": [
            Panel("Triton answers", "none", {"{{instance}}": "cutstream_triton_available"}, maximum=1),
            Panel(
                "Time until Triton answered",
                "s",
                quantiles("cutstream_triton_request_duration_seconds"),
                exemplars=True,
            ),
            Panel(
                "Requests by status",
                "reqps",
                {"{{status}}": rate("cutstream_triton_request_duration_seconds_count", "status")},
                stacked=True,
            ),
            Panel(
                "Restarts of embedded Tritons in an hour",
                "none",
                {"{{instance}}": "increase(cutstream_triton_restarts_total[1h])"},
            ),
        ],
        "Requests": [
            Panel(
                "Inferences",
                "reqps",
                {
                    "answered": rate("nv_inference_request_success"),
                    "{{reason}}": rate("nv_inference_request_failure", "reason"),
                },
                note="REJECTED: the queue was full, or waiting took too long.",
            ),
            Panel(
                "Waiting requests",
                "none",
                {"{{model}}": "sum by (model) (nv_inference_pending_request_count{$filter})"},
            ),
            Panel(
                "Images in a batch",
                "none",
                {"{{model}}": f"{rate('nv_inference_count', 'model')} / {rate('nv_inference_exec_count', 'model')}"},
            ),
        ],
        "Where a request's time goes": [
            Panel(
                "Mean time",
                "s",
                {
                    legend: f"{rate(f'nv_inference_{metric}_duration_us')} / {rate('nv_inference_request_success')}"
                    f" * {MICROSECOND}"
                    for legend, metric in (
                        ("queue", "queue"),
                        ("input", "compute_input"),
                        ("network", "compute_infer"),
                        ("output", "compute_output"),
                    )
                },
                width=24,
                stacked=True,
            ),
        ],
        "GPU": [
            Panel("GPU utilisation", "percentunit", {"{{gpu_uuid}}": "nv_gpu_utilization"}, maximum=1),
            Panel(
                "GPU memory",
                "bytes",
                {"used {{gpu_uuid}}": "nv_gpu_memory_used_bytes", "total {{gpu_uuid}}": "nv_gpu_memory_total_bytes"},
            ),
            Panel("GPU power", "watt", {"{{gpu_uuid}}": "nv_gpu_power_usage", "limit": "nv_gpu_power_limit"}),
        ],
        "Machine": [
            Panel("Processor utilisation", "percentunit", {"{{instance}}": "nv_cpu_utilization"}, maximum=1),
            Panel(
                "Memory of the machine",
                "bytes",
                {"used": "nv_cpu_memory_used_bytes", "total": "nv_cpu_memory_total_bytes"},
            ),
        ],
    },
)
