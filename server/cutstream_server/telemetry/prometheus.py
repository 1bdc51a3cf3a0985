"""The Prometheus endpoint: the SDK's metrics with their exemplars, under the names that its conventions give them.

The OpenTelemetry project's own exporter leaves the exemplars out, and they are the way from a slow bucket to a trace.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import Any, Final, TypeAlias

from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, InMemoryMetricReader, Metric, Sum
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

logger = logging.getLogger(__name__)

Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]

UNITS: Final = {"s": "seconds", "By": "bytes"}
"""Units that a name ends in; ratios and counts have none."""


class PrometheusEndpoint:
    """An HTTP server that answers scrapes, on threads of its own.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        reader: read anew for each scrape; exemplars are those since the last one.
        resource: shown as target_info.

    Raises:
        OSError: the address cannot be used.
    """

    def __init__(self, address: str, reader: InMemoryMetricReader, resource: Resource) -> None:
        target = {_name(key): str(value) for key, value in resource.attributes.items()}
        registry = CollectorRegistry(target_info=target)
        registry.register(_ReaderCollector(reader))
        # Memory, processor time and open files, under the names that all Prometheus clients give them.
        ProcessCollector(registry=registry)
        host, _, port = address.rpartition(":")
        self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        logger.info("metrics on http://%s:%d/metrics", host, self._server.server_port)

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _ReaderCollector(Collector):
    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Family]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield family_of(metric)


def family_of(metric: Metric) -> Family:
    """Gives a metric of the SDK as one of Prometheus: a monotonic sum as counter, any other as gauge."""
    name, unit = _name(metric.name), UNITS.get(metric.unit or "", "")
    if unit in name:
        unit = ""
    points = metric.data.data_points
    labels = sorted({key for point in points for key in point.attributes or {}})
    rows = [[str((point.attributes or {}).get(label, "")) for label in labels] for point in points]
    about: dict[str, Any] = {
        "name": name,
        "documentation": metric.description or name,
        "unit": unit,
        "labels": [*map(_name, labels)],
    }
    if isinstance(metric.data, Histogram):
        histogram = HistogramMetricFamily(**about)
        for row, point in zip(rows, metric.data.data_points, strict=True):
            histogram.add_metric(row, _buckets(point), point.sum)
        return histogram
    numbers: Sequence[Any] = points
    is_counter = isinstance(metric.data, Sum) and metric.data.is_monotonic
    family = CounterMetricFamily(**about) if is_counter else GaugeMetricFamily(**about)
    for row, number in zip(rows, numbers, strict=True):
        family.add_metric(row, number.value)
    return family


def _bound(bound: float) -> str:
    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return text


def _name(name: str) -> str:
    return name.replace(".", "_")


def _buckets(point: HistogramDataPoint) -> list[Bucket]:
    """Gives each bound with the count up to it and an example of what is between it and the bound below."""
    bounds = (-inf, *point.explicit_bounds, inf)
    buckets: list[Bucket] = []
    for (low, high), count in zip(pairwise(bounds), accumulate(point.bucket_counts), strict=True):
        examples = [e for e in point.exemplars if low < e.value <= high and e.trace_id is not None]
        if examples:
            last = examples[-1]
            ids = {"trace_id": f"{last.trace_id:032x}", "span_id": f"{last.span_id:016x}"}
            buckets.append((_bound(high), count, Exemplar(ids, last.value, last.time_unix_nano / 1e9)))
        else:
            buckets.append((_bound(high), count))
    return buckets
