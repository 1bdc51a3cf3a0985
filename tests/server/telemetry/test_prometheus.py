"""Metrics of the SDK as Prometheus sees them."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from cutstream_server.telemetry.prometheus import family_of


@pytest.fixture
def scrape():
    """Gives a function that makes an instrument with a meter, and gives its samples as {(name, labels): value}."""

    def samples(make):
        reader = InMemoryMetricReader()
        make(MeterProvider([reader]).get_meter("test"))
        (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        return {(s.name, *s.labels.items()): s.value for s in family_of(metric).samples}

    return samples


def test_a_counter_ends_in_total(scrape):
    found = scrape(lambda meter: meter.create_counter("our.images", "{image}").add(3, {"some.outcome": "ok"}))
    assert found == {("our_images_total", ("some_outcome", "ok")): 3}


def test_an_up_down_counter_is_a_gauge(scrape):
    assert scrape(lambda meter: meter.create_up_down_counter("our.streams").add(-2)) == {("our_streams",): -2}


@pytest.mark.parametrize(
    ("name", "unit", "shown"),
    [
        ("our.memory", "By", "our_memory_bytes"),
        ("our.bytes.in_flight", "By", "our_bytes_in_flight"),
        ("our.age", "s", "our_age_seconds"),
        ("our.score", "1", "our_score"),
        ("our.images", "{image}", "our_images"),
    ],
)
def test_a_unit_is_the_end_of_the_name_unless_the_name_says_it(scrape, name, unit, shown):
    assert scrape(lambda meter: meter.create_gauge(name, unit).set(1)) == {(shown,): 1}


def test_a_histogram_counts_up_to_each_bound(scrape):
    def make(meter):
        histogram = meter.create_histogram("our.time", "s", explicit_bucket_boundaries_advisory=[0.5, 1.0])
        for value in (0.25, 0.5, 0.75, 8.0):
            histogram.record(value)

    assert scrape(make) == {
        ("our_time_seconds_bucket", ("le", "0.5")): 2,
        ("our_time_seconds_bucket", ("le", "1.0")): 3,
        ("our_time_seconds_bucket", ("le", "+Inf")): 4,
        ("our_time_seconds_count",): 4,
        ("our_time_seconds_sum",): 9.5,
    }


def test_a_label_that_a_point_lacks_is_empty(scrape):
    def make(meter):
        counter = meter.create_counter("our.images")
        counter.add(1, {"outcome": "ok"})
        counter.add(2, {"outcome": "error", "reason": "DEADLINE"})

    assert scrape(make) == {
        ("our_images_total", ("outcome", "ok"), ("reason", "")): 1,
        ("our_images_total", ("outcome", "error"), ("reason", "DEADLINE")): 2,
    }
