"""The alerts: a runbook for each, and their own test by promtool where that is installed (Debian: prometheus)."""

import re
import shutil
import subprocess

import pytest
from queries import ALERTS, rules
from running import ROOT

PROMTOOL = shutil.which("promtool")
TESTS = sorted(ALERTS.parent.glob("alerts_*test.yml"))
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")


def anchors(page):
    """The addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook_that_exists(rule):
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_tested(rule):
    assert f"alertname: {rule['alert']}\n" in "".join(file.read_text() for file in TESTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [["check", "rules", ALERTS], ["test", "rules", *TESTS], ["check", "config", ALERTS.with_name("prometheus.yml")]],
    ids=["rules", "unit tests", "configuration"],
)
def test_promtool_agrees(command):
    run = subprocess.run([PROMTOOL, *command], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
