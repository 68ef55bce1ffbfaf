"""The picture of the dashboard's layout, made from the dashboard: what stands where, and from when it is red.

    python -m tests.pictures.dashboard deploy/pictures/dashboard.svg

It shows no figures: what a panel shows in operation is Grafana's to draw. A test holds the committed file against this.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from broker.observe.metrics import BY_NAME, Metric, Source
from tests.support.dashboard import made
from tests.support.tree import ROOT

PICTURE = ROOT / "deploy" / "pictures" / "dashboard.svg"
WIDTH, HEAD, ROW, GAP, COLUMNS = 1200, 64, 152, 8, 24
MEANING_LINES, TODO_LINES, CHARACTERS = 2, 3, 54
_BACK, _PANEL, _EDGE, _TEXT, _DIM, _RED, _GREEN = (
    "#111217", "#181b1f", "#2c3235", "#e6e8ec", "#9fa7b3", "#f2495c", "#73bf69",
)  # fmt: skip


def drawn() -> str:
    """The file's text."""
    dashboard = json.loads(made())
    panels = dashboard["panels"]
    rows = max(_place(one)[1] + _place(one)[3] for one in panels)
    height = HEAD + rows + GAP
    head = f"{len(panels)} panels, read again every {dashboard['refresh']}; red edge: it has a limit"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Inter, Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="{_BACK}"/>',
        _line(16, 28, dashboard["title"], 20, _TEXT, bold=True),
        _line(16, 50, head, 13, _DIM),
        *(line for panel in panels for line in _panel(panel)),
        "</svg>",
        "",
    ])  # fmt: skip


def _place(panel: dict[str, Any]) -> tuple[int, int, int, int]:
    """x, y, width and height; y without the head."""
    grid = panel["gridPos"]
    unit = WIDTH // COLUMNS
    return grid["x"] * unit, grid["y"] * ROW // grid["h"], grid["w"] * unit, ROW


def _panel(panel: dict[str, Any]) -> list[str]:
    left, top, width, height = _place(panel)
    metric = BY_NAME[panel["title"]]
    x, y = left + GAP // 2, top + HEAD
    edge = _RED if metric.warn is not None else _GREEN
    lines = [
        f'<rect {_at(x, y, width - GAP, height - GAP)} rx="3" fill="{_PANEL}" stroke="{_EDGE}"/>',
        f'<rect {_at(x, y, 3, height - GAP)} fill="{edge}"/>',
        _line(x + 14, y + 22, metric.name, 14, _TEXT, bold=True),
        _line(x + 14, y + 40, _facts(metric), 12, _DIM),
    ]
    wrapped = [*_wrapped(metric.meaning, MEANING_LINES, _TEXT), *_wrapped(f"To do: {metric.red}", TODO_LINES, _DIM)]
    return lines + [_line(x + 14, y + 62 + 16 * n, text, 12, colour) for n, (text, colour) in enumerate(wrapped)]


def _at(x: int, y: int, width: int, height: int) -> str:
    return f'x="{x}" y="{y}" width="{width}" height="{height}"'


def _facts(metric: Metric) -> str:
    by = re.search(r"by \(([a-z_, ]+)\)", metric.query)
    parts = ["p99" if "histogram_quantile" in metric.query else "", metric.unit]
    parts += ["a second"] if "rate(" in metric.query and "quantile" not in metric.query else []
    shown = [one.strip() for one in by[1].split(",") if one.strip() != "le"] if by else []
    text = " ".join(part for part in parts if part) + (f", by {' and '.join(shown)}" if shown else "")
    told = "from Redis" if metric.source is Source.REDIS else "each replica"
    return f"{text}; {told}" + (f"; red from {metric.warn:g}" if metric.warn is not None else "")


def _wrapped(text: str, most: int, colour: str) -> list[tuple[str, str]]:
    lines = textwrap.wrap(text, CHARACTERS, max_lines=most, placeholder=" ...")
    return [(line, colour) for line in lines]


def _line(x: int, y: int, text: str, size: int, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawn(), encoding="utf-8")
