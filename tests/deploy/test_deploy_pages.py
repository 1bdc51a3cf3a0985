"""docs/operations.md names every setting and every metric, and none that does not exist."""

import re

import pytest
from exposition import GPU_METRICS
from queries import all_queries, named_in, rules
from running import ROOT

from cutstream_server.settings import OPTION_ENVIRONMENT, Settings
from cutstream_server.telemetry.environment import OpenTelemetryVariables

PAGE = (ROOT / "docs" / "operations.md").read_text()
NAMED = set(re.findall(r"`([A-Za-z_]+)`", PAGE))
SETTINGS = {f"CUTSTREAM_{name.upper()}" for name in Settings.model_fields}
OPTIONS = {name.upper() for name in OPTION_ENVIRONMENT} | {"OUTPUT_SIZE"}
TELEMETRY = {f"OTEL_{name.upper()}" for name in OpenTelemetryVariables.model_fields}


@pytest.mark.parametrize("variable", sorted(SETTINGS | OPTIONS | TELEMETRY))
def test_a_variable_is_named(variable):
    assert variable in NAMED


def test_no_setting_is_named_that_does_not_exist():
    assert {name for name in NAMED if name.startswith("CUTSTREAM_")} <= SETTINGS | {"CUTSTREAM_TRACE_RATIO"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_named(rule):
    assert rule["alert"] in NAMED


def test_every_metric_that_is_asked_for_is_named():
    asked = {family(one.metric) for _, query in all_queries() for one in named_in(query)}
    assert asked - {"up"} <= NAMED


def family(name):
    """A histogram's name without the ending of its parts."""
    return re.sub(r"_(bucket|count|sum|created)$", "", name) if not name.startswith("nv_") else name


def test_every_metric_of_the_service_is_named(shown):
    assert {name for name in map(family, shown) if name.startswith(("cutstream_", "rpc_"))} <= NAMED


def test_no_metric_is_named_that_does_not_exist(shown):
    ours = {name for name in NAMED if name.startswith(("cutstream_", "rpc_", "nv_", "process_"))}
    assert ours - {"process_"} <= {*map(family, shown)} | set().union(*shown.values()) | GPU_METRICS
