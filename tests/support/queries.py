"""The PromQL that the repository ships: of dashboards, alerts and autoscaling, and what it names."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import promql_parser
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
# What Grafana puts in before Prometheus sees a query.
GRAFANA = [(r"\$__rate_interval", "5m"), (r"\$\w+", ".*")]
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
SCALING = DEPLOY / "kubernetes" / "components" / "autoscaling" / "scaling.yaml"


@dataclass(frozen=True)
class Named:
    """A metric as a query asks for it: its name, the labels it must have, and the values it asks for, by label."""

    metric: str
    matchers: tuple[tuple[str, str], ...]


def dashboard_queries():
    """(where, PromQL) of every panel of every dashboard."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"]
                for pattern, value in GRAFANA:
                    query = re.sub(pattern, value, query)
                yield f"{file.stem}: {panel['title']}", query


def variable_queries():
    """(where, metric, label) of every variable that a dashboard fills by `label_values`."""
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
                yield f"{file.stem}: ${variable['name']}", metric, label


def rules():
    """Every alert."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def all_queries():
    """(where, PromQL) of everything that is shipped."""
    yield from dashboard_queries()
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for scaled in yaml.safe_load_all(SCALING.read_text()):
        for trigger in scaled["spec"]["triggers"]:
            yield f"scaling of {scaled['metadata']['name']}", trigger["metadata"]["query"]


def named_in(query):
    """All metrics that a query asks for."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = tuple((matcher.name, matcher.value) for matcher in node.matchers.matchers)
            found.append(Named(node.name, matchers))

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def grouping_labels(query):
    """All labels that a query groups by."""
    found = set()

    def visit(node):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found
