"""What dashboards, alerts and autoscaling ask for is what a running service and its Triton show."""

import re

import pytest
from exposition import GPU_LABELS, GPU_METRICS
from queries import all_queries, grouping_labels, named_in, variable_queries
from running import ROOT

from cutstream_server import errors
from cutstream_server.telemetry.metrics import CANCELLED

QUERIES = list(all_queries())
# Prometheus makes `up` for every target, and gives every series these labels; `namespace` comes with Kubernetes.
BY_PROMETHEUS = {"up": {"job", "instance"}}
TARGET_LABELS = {"job", "instance", "namespace"}


@pytest.fixture(scope="module")
def existing(shown):
    """Label names by metric name, of everything that a Prometheus can have."""
    return {**BY_PROMETHEUS, **dict.fromkeys(GPU_METRICS, GPU_LABELS), **shown}


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_names_metrics_and_labels_that_exist(existing, where, query):
    named = named_in(query)
    assert named
    for metric, matchers in ((one.metric, one.matchers) for one in named):
        assert metric in existing
        assert {label for label, _ in matchers} <= existing[metric] | TARGET_LABELS
    labels = set().union(*(existing[one.metric] for one in named))
    assert grouping_labels(query) <= labels | TARGET_LABELS


def test_a_variable_names_a_metric_and_a_label_that_exist(existing):
    for where, metric, label in variable_queries():
        assert label in existing[metric] | TARGET_LABELS, where


def test_every_reason_asked_for_is_one_that_images_fail_with():
    reasons = {CANCELLED} | {
        kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")
    }
    asked = {
        reason
        for _, query in QUERIES
        for one in named_in(query)
        for label, value in one.matchers
        if label == "reason" and value != ".*"
        for reason in value.split("|")
    }
    assert asked
    assert asked <= reasons


def test_every_job_asked_for_is_one_that_is_scraped():
    configuration = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    scraped = set(re.findall(r"job_name: (\S+)", configuration))
    asked = {
        job
        for _, query in QUERIES
        for one in named_in(query)
        for label, value in one.matchers
        if label == "job"
        for job in value.split("|")
    }
    assert asked
    assert asked <= scraped
