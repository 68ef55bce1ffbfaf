"""What a scrape says, from figures that are known: numbers that a range test would let through in any unit."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from broker.cancel.census import OpenWork
from broker.figures import OwnFigures, SharedFigures
from broker.ingest.consumer import IngestCounts
from broker.server.metrics import Traffic, render
from broker.store.streams import StreamState

COUNTS = {
    "stopped|gpu-7|stopped|1": 2,
    "stopped|gpu-7|stopped|3": 1,
    "stopped|gpu-7|stopped|sum_us": 1_500_000,
    "refusals|start": 4,
}
OWN = OwnFigures({"commands": 0, "listener": 3}, 2, 1.5, IngestCounts(applied=5))


def said(traffic: Traffic | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample of a scrape, by its name and labels."""
    work = OpenWork(3, 1, 7, 2.5, {"no_ack": 7}, True, cast("Any", None))
    shared = SharedFigures(COUNTS, work, StreamState(11, 12, 0.5, 13, 1), 6)
    text = render(traffic or Traffic(), OWN, shared).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_histogram_is_cumulative_and_its_sum_is_in_seconds() -> None:
    found, labels = said(), {"agent_node": "gpu-7", "disposition": "stopped"}

    def of(suffix: str, **more: str) -> float:
        return found[f"broker_ack_stopped_seconds_{suffix}", frozenset({**labels, **more}.items())]

    bounds = ("0.0001", "0.0002", "0.0004", "0.0008", "300", "+Inf")
    assert [of("bucket", le=bound) for bound in bounds] == [0, 2, 2, 3, 3, 3]
    assert (of("count"), of("sum")) == (3, 1.5)


def test_each_figure_is_under_its_own_name() -> None:
    found = {name: value for (name, labels), value in said().items() if not labels}
    expected = {
        "broker_operations_open": 3, "broker_operations_overdue": 1, "broker_executions_unsettled": 7,
        "broker_oldest_unsettled_seconds": 2.5, "broker_workers_alive": 6, "broker_ingest_backlog_events": 11,
        "broker_ingest_pending_events": 12, "broker_ingest_lag_seconds": 0.5, "broker_ingest_dead_events": 13,
        "broker_canary_age_seconds": 1.5, "broker_redis_up": 1, "broker_open_list_complete": 1,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected


def test_a_request_counts_under_the_class_of_its_status() -> None:
    traffic = Traffic()
    traffic.note("/livez", "GET", 200, 0.01)
    traffic.note("/livez", "GET", 503, 0.01)
    traffic.note("/livez", "BREW", 404, 0.01)
    counted = {
        (dict(labels)["method"], dict(labels)["status"]): value
        for (name, labels), value in said(traffic).items()
        if name == "broker_http_requests_total"
    }
    assert counted == {("GET", "2xx"): 1, ("GET", "5xx"): 1, ("other", "4xx"): 1}
