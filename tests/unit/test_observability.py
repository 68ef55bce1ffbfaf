"""deploy/observability: the dashboard is made from the metrics, the rules ask for what there is, promtool agrees."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any
from xml.etree import ElementTree

import pytest

from broker.observe.metrics import BY_NAME, METRICS
from tests.pictures.dashboard import PICTURE, drawn
from tests.support.alerts import need_promtool
from tests.support.dashboard import DASHBOARD, made
from tests.support.tree import ROOT

FOLDER = ROOT / "deploy" / "observability"
SVG = "{http://www.w3.org/2000/svg}"
_NAMES = re.compile(r"\bbroker_[a-z_]+\b")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def test_the_dashboard_is_what_the_metrics_make() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == made(), "run `python -m tests.support.dashboard`"


def test_the_picture_of_the_dashboard_is_what_the_dashboard_makes() -> None:
    """And every panel is in it, whole: no line is wider than its panel."""
    text = PICTURE.read_text(encoding="utf-8")
    assert text == drawn(), "run `python -m tests.pictures.dashboard deploy/pictures/dashboard.svg`"
    lines = ["".join(one.itertext()) for one in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {panel["title"] for panel in panels()} <= set(lines)
    assert not [line for line in lines if line.endswith("...")], "cut"
    assert max(map(len, lines)) <= 70


def test_every_metric_is_on_the_dashboard_or_says_why_not() -> None:
    shown = {panel["title"] for panel in panels()}
    assert {metric.name for metric in METRICS} - shown == {"broker_open_list_complete"}
    assert "no panel" in BY_NAME["broker_open_list_complete"].meaning


def test_every_panel_says_what_to_do_when_it_is_red() -> None:
    for panel in panels():
        metric = BY_NAME[panel["title"]]
        assert panel["description"] == f"{metric.meaning} Red: {metric.red}"
        assert len(metric.red) > len("Look at it.")


@pytest.mark.parametrize("name", ["alerts.yml", "grafana/dashboards/broker.json"])
def test_no_query_asks_for_a_metric_that_there_is_not(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    asked = {re.sub(r"_(bucket|sum|count)$", "", one) for one in _NAMES.findall(text)}
    assert asked
    assert asked <= set(BY_NAME)


def test_three_alerts_wake_someone_and_each_says_what_to_do() -> None:
    text = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", text)
    assert alerts == ["BrokerCancelOverdue", "BrokerOldestUnsettled", "BrokerNoCanary"]
    assert text.count("severity: page") == text.count("what_to_do:") == 3


@pytest.mark.parametrize(
    "command",
    ["check config --syntax-only prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_accepts_it(command: str) -> None:
    need_promtool()
    done = subprocess.run(["promtool", *command.split()], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
