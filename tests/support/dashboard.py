"""The Grafana dashboard, made from the table of metrics: `python -m tests.support.dashboard` writes it.

A test holds the committed file against what is made here, so that code and dashboard cannot drift.
"""

from __future__ import annotations

import json
from typing import Any

from broker.observe.metrics import METRICS, Kind, Metric
from tests.support.tree import ROOT

DASHBOARD = ROOT / "deploy" / "observability" / "grafana" / "dashboards" / "broker.json"
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 3
_UNITS = {"seconds": "s", "1 or 0": "bool"}


def made() -> str:
    """The file's text."""
    dashboard = {
        "uid": "cancellation-broker",
        "title": "Cancellation broker",
        "tags": ["broker"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_panel(n, metric) for n, metric in enumerate(one for one in METRICS if one.query)],
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _panel(number: int, metric: Metric) -> dict[str, Any]:
    row, column = divmod(number, _ACROSS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": metric.name,
        "description": f"{metric.meaning} Red: {metric.red}",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": _defaults(metric), "overrides": []},
        "targets": [{"refId": "A", "expr": metric.query, "legendFormat": "__auto"}],
    }


def _defaults(metric: Metric) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if metric.warn is not None:
        steps.append({"color": "red", "value": metric.warn})
    per_second = metric.kind is Kind.COUNTER
    return {
        "unit": "cps" if per_second else _UNITS.get(metric.unit, "short"),
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {"thresholdsStyle": {"mode": "off" if metric.warn is None else "line+area"}},
        "thresholds": {"mode": "absolute", "steps": steps},
    }


if __name__ == "__main__":
    DASHBOARD.write_text(made(), encoding="utf-8")
