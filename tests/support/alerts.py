"""promtool runs the alert rules over values that were scraped."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.tree import ROOT

ALERTS = ROOT / "deploy" / "observability" / "alerts.yml"
EVERY_S = 15
MINUTE = 60 // EVERY_S
Scrape = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]
"""Sample name → labels → value."""


def parse_scrape(text: str) -> Scrape:
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def need_promtool() -> None:
    """Loud: what is skipped has not been checked by anything else."""
    if shutil.which("promtool") is None:
        pytest.skip("NOT CHECKED BY PROMTOOL: there is none (Debian, Ubuntu: apt-get install prometheus)")


class Story(NamedTuple):
    """Scrapes, each repeated for so many minutes, and which alerts must fire at the end; the others must not."""

    told: str
    scrapes: Sequence[tuple[Scrape, int]]
    fire: Collection[str] = ()


def check_stories(stories: Sequence[Story], folder: Path) -> None:
    """promtool runs the rules over each. Every sample of every scrape is a series; where it is missing it is stale."""
    file = folder / "scraped.yml"
    cases = list(map(_case, stories))
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": f"{EVERY_S}s", "tests": cases}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _case(story: Story) -> dict[str, Any]:
    names = [line.split()[-1] for line in ALERTS.read_text().splitlines() if "- alert:" in line]
    assert set(story.fire) <= set(names), story.fire
    scrapes = story.scrapes
    keys = {(name, labels) for scrape, _ in scrapes for name, samples in scrape.items() for labels in samples}
    end = f"{sum(minutes for _, minutes in scrapes)}m"
    return {
        "name": story.told,
        "interval": f"{EVERY_S}s",
        "input_series": [
            {"series": _series(*key), "values": " ".join(_values(scrape, *key, n) for scrape, n in scrapes)}
            for key in sorted(keys, key=str)
        ],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                "eval_time": end,
                "exp_samples": [{"labels": "{}", "value": int(name in story.fire)}],
            }
            for name in names
        ],
    }


def _series(name: str, labels: frozenset[tuple[str, str]]) -> str:
    all_labels = {**dict(labels), "instance": "a", "job": "broker"}
    return f"{name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in sorted(all_labels.items()))}}}"


def _values(scrape: Scrape, name: str, labels: frozenset[tuple[str, str]], minutes: int) -> str:
    value, samples = scrape.get(name, {}).get(labels), minutes * MINUTE
    return f"stale _x{samples - 1}" if value is None else f"{value:.12g}x{samples - 1}"
