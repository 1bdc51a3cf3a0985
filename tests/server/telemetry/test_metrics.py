"""What is counted of an image, and what is observed of the service's state."""

from types import SimpleNamespace

import pytest
from observing import Observer
from opentelemetry.context import Context

from cutstream_server.imaging.quality import Centering, MaskMetrics
from cutstream_server.options import Options
from cutstream_server.report import ImageReport

QUALITY = {"cutstream.mask.confidence": 0.75, "cutstream.object.coverage": 0.25, "cutstream.centering.score": 0.5}


@pytest.fixture
def observer():
    return Observer()


@pytest.fixture
def metrics(observer):
    return observer.telemetry.metrics


def measured(model_name="isnet"):
    """A report with a value for every figure."""
    centering = Centering(0.0, 0.0, 0.0, 0.0, well_centered=True, score=0.5)
    numbers = dict.fromkeys(MaskMetrics.__dataclass_fields__, 0.0)
    mask = MaskMetrics(**{**numbers, "object_coverage_ratio": 0.25, "centering": centering})
    seconds = {"queue": 0.25, "decode": 0.5, "total": 1.0}
    return ImageReport(Options(profile="fast"), model_name=model_name, mask=mask, confidence=0.75, seconds=seconds)


def sums(observer, name):
    return {values: (point.count, point.sum) for values, point in observer.points(name).items()}


def test_a_cutout_counts_with_its_times_and_its_quality(observer, metrics):
    metrics.count_image("", measured(), Context())
    assert observer.counts("cutstream.images") == {("ok",): 1}
    assert sums(observer, "cutstream.image.duration") == {("ok", "fast"): (1, 1.0)}
    assert sums(observer, "cutstream.stage.duration") == {("queue",): (1, 0.25), ("decode",): (1, 0.5)}
    assert {name: sums(observer, name) for name in QUALITY} == {
        name: {("isnet",): (1, value)} for name, value in QUALITY.items()
    }


def test_a_failed_image_counts_with_the_times_that_it_took(observer, metrics):
    metrics.count_image("NO_OBJECT", measured(), Context())
    assert observer.counts("cutstream.images") == {("error", "NO_OBJECT"): 1}
    assert sums(observer, "cutstream.image.duration") == {("error", "fast"): (1, 1.0)}


def test_an_image_that_was_refused_has_no_times(observer, metrics):
    metrics.count_image("OVERLOADED", None, Context())
    assert observer.counts("cutstream.images") == {("error", "OVERLOADED"): 1}
    assert sums(observer, "cutstream.image.duration") == {}


def test_a_mask_that_the_image_brought_says_nothing_of_a_model(observer, metrics):
    metrics.count_image("", measured(model_name=""), Context())
    assert [sums(observer, name) for name in QUALITY] == [{}, {}, {}]


def test_the_admission_is_read_whenever_somebody_looks(observer, metrics):
    admission = SimpleNamespace(images=1, waiting=2, bytes=3, max_images=4, max_bytes=5, rejected=6)
    metrics.watch_admission(admission)
    admission.images = 9
    names = ("images.in_flight", "images.waiting", "bytes.in_flight", "admission.images.limit", "admission.bytes.limit")
    found = [observer.counts(f"cutstream.{name}")[()] for name in (*names, "admission.rejected")]
    assert found == [9, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("ready", "value"), [(True, 1), (False, 0)])
def test_triton_is_available_or_not(observer, metrics, ready, value):
    metrics.watch_triton(SimpleNamespace(ready=ready, restarts=7))
    names = ("cutstream.triton.available", "cutstream.triton.restarts")
    assert [observer.counts(name)[()] for name in names] == [value, 7]
