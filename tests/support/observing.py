"""What the service tells about itself, kept in memory."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from cutstream_server.telemetry.images import Telemetry
from cutstream_server.telemetry.metrics import Metrics


class Observer:
    """A `Telemetry` whose spans and figures a test can look at."""

    def __init__(self, sampler=DEFAULT_ON, **settings):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.reader = InMemoryMetricReader()
        meter = MeterProvider([self.reader]).get_meter("test")
        self.tracer = provider.get_tracer("test")
        self.telemetry = Telemetry(self.tracer, Metrics(meter), **settings)

    def spans(self, name=None):
        """The spans that have ended, in their order; those of one name."""
        return [span for span in self._exporter.get_finished_spans() if name in {None, span.name}]

    def span(self, name):
        """The one span of a name."""
        (span,) = self.spans(name)
        return span

    def points(self, name):
        """The points of a metric by their attributes' values, sorted by the attributes' names."""
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        return {
                            tuple(value for _, value in sorted(point.attributes.items())): point
                            for point in metric.data.data_points
                        }
        return {}

    def counts(self, name):
        """How often each set of attributes was counted or measured."""
        return {
            values: point.count if hasattr(point, "count") else point.value
            for values, point in self.points(name).items()
        }
