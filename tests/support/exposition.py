"""What the metrics endpoints of a running service and of its Triton show."""

import contextlib
import re
import urllib.request
from pathlib import Path

from cutstream import CutoutError

# Shown by Triton where it finds a GPU: its documentation, docs/user_guide/metrics.md, section "GPU Metrics".
GPU_METRICS = {
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
}
GPU_LABELS = {"gpu_uuid"}
# By hand: the parser of prometheus_client gives counters the ending _total, which Triton's have not.
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ")
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
# Triton's endpoint lies beside our own, at a free port that the service chose.
METRICS_PORT = re.compile(r"--metrics-port=(\d+)")


def scrape(port):
    """The samples of an endpoint: label names by metric name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for name, labels in (SAMPLE.match(line).groups() for line in lines if not line.startswith("#")):
        found.setdefault(name, set()).update(LABEL.findall(labels or ""))
    return found


def triton_metrics_port(server):
    """Of the embedded Triton of a running server."""
    (process,) = server.triton_processes("tritonserver")
    command = Path(f"/proc/{process}/cmdline").read_text()
    return int(METRICS_PORT.search(command)[1])


def work_a_little(server, good, bad):
    """An image that is cut out, one that fails, and both on a stream: every kind of metric has something to show."""
    with server.client() as client:
        client.remove(good)
        with contextlib.suppress(CutoutError):
            client.remove(bad)
        assert len(list(client.stream([good, bad]))) == 2
