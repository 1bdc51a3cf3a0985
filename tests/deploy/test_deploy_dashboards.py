"""The dashboards: as their source says, whole, and in PromQL that parses."""

import json

import promql_parser
import pytest
from deploy.grafana.source.__main__ import DASHBOARDS as SOURCES
from deploy.grafana.source.panels import text
from queries import DASHBOARDS, all_queries, dashboard_queries

PAGES = {file.stem: json.loads(file.read_text()) for file in DASHBOARDS}
QUERIES = list(all_queries())
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, page in PAGES.items()
    for panel in page["panels"]
    if panel["type"] != "row"
]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_the_file_is_what_the_source_says(file):
    assert file.read_text() == text(SOURCES[file.stem]), "run `make docs`"


def test_every_dashboard_has_a_file():
    assert set(PAGES) == set(SOURCES)


def test_no_two_dashboards_share_an_id():
    assert len({page["uid"] for page in PAGES.values()}) == len(PAGES)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_title_unit_and_queries(panel):
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_data_source_that_the_viewer_chose(panel):
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_panel_overlaps_another_or_leaves_the_grid(page):
    taken = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_is_promql(where, query):
    promql_parser.parse(query)


def test_every_variable_of_a_page_is_used_in_it():
    for name, page in PAGES.items():
        expressions = json.dumps([panel.get("targets") for panel in page["panels"]])
        for variable in page["templating"]["list"]:
            assert f"${variable['name']}" in expressions or f"${{{variable['name']}}}" in expressions, name


def test_the_queries_of_the_pages_are_found():
    assert len(list(dashboard_queries())) > len(PANELS)
