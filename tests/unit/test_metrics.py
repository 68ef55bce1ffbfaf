"""The table of metrics: named as Prometheus wants it, its labels bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.observe.metrics import BY_NAME, LAG_BOUNDS_S, METRICS, Kind, Metric
from broker.store.counts import bucket_of
from broker.store.scripts import LUA

each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
MOST_SERIES = 20_000
"""Of one metric, at the very worst: what one Prometheus carries without noticing."""


@each
def test_a_name_says_what_it_is(metric: Metric) -> None:
    assert re.fullmatch(r"broker_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_seconds") == (metric.unit == "seconds")
    assert metric.meaning.endswith(".")


@each
def test_t35_no_label_is_without_a_bound(metric: Metric) -> None:
    series = 1
    for label in metric.labels:
        assert bool(label.values) != bool(label.at_most), "either its values, or how many there can be"
        assert label.values or label.of, "of what, where the values are not known"
        assert not {"run", "run_id", "execution", "execution_id", "cancel_id", "worker", "path"} & {label.name}
        series *= len(label.values) or label.at_most
    assert series * (len(LAG_BOUNDS_S) + 3 if metric.kind is Kind.HISTOGRAM else 1) <= MOST_SERIES


@each
def test_a_panel_says_what_to_do_and_shows_its_metric(metric: Metric) -> None:
    """One without a panel says so in its meaning."""
    assert bool(metric.red) == bool(metric.query)
    assert metric.red.endswith(".") or "no panel" in metric.meaning
    assert metric.name in metric.query or not metric.query


def test_every_name_is_there_once() -> None:
    assert len(BY_NAME) == len(METRICS)


@given(st.integers(0, 10**12) | st.sampled_from([round(bound * 1e6) + n for bound in LAG_BOUNDS_S for n in (-1, 0, 1)]))
def test_a_lag_is_in_the_bucket_of_the_first_bound_that_is_not_below_it(lag_us: int) -> None:
    expected = next((n for n, bound in enumerate(LAG_BOUNDS_S) if lag_us <= round(bound * 1e6)), len(LAG_BOUNDS_S))
    assert bucket_of(lag_us) == expected


def test_every_event_of_an_audit_has_its_label() -> None:
    """The counter of audit events counts whatever a script writes there."""
    files = [*Path(str(LUA)).glob("*.lua"), *(Path(str(LUA)) / "include").glob("*.lua")]
    text = "\n".join(path.read_text() for path in files)
    written = set(re.findall(r"audit\((?:asserted and )?'([a-z_]+)'", text)) | {"requested", "overdue", "given_up"}
    (label,) = BY_NAME["broker_audit_events_total"].labels
    assert written == set(label.values)
