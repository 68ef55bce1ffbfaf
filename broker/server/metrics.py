"""/metrics: the table of broker/observe/metrics.py in Prometheus's text format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from broker.figures import OwnFigures, SharedFigures
from broker.observe.metrics import BY_NAME, HTTP_BOUNDS_S, LAG_BOUNDS_S, Kind, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Samples = Mapping[tuple[str, ...], float]
_METHODS: Final = frozenset(
    next(one for one in BY_NAME["broker_http_requests_total"].labels if one.name == "method").values
)


class Traffic:
    """The requests of this replica."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests, seconds = BY_NAME["broker_http_requests_total"], BY_NAME["broker_http_request_seconds"]
        self._requests = Counter(requests.name, requests.meaning, _names(requests), registry=self.registry)
        self._seconds = Histogram(
            seconds.name, seconds.meaning, _names(seconds), registry=self.registry, buckets=HTTP_BOUNDS_S
        )

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is a template, never a path; a method that nobody knows is counted as `other`."""
        self._requests.labels(route, method if method in _METHODS else "other", f"{status // 100}xx").inc()
        self._seconds.labels(route).observe(seconds)


def render(traffic: Traffic, own: OwnFigures, shared: SharedFigures | None) -> bytes:
    """The answer to a scrape; `shared` is None while Redis is away."""
    return generate_latest(_Once([*traffic.registry.collect(), *_families(own, shared)]))


class _Once:
    """What is to be rendered, as the library wants to ask for it."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _families(own: OwnFigures, shared: SharedFigures | None) -> Iterator[Family]:
    samples: dict[str, Samples] = _own(own) | {"broker_redis_up": {(): 0.0 if shared is None else 1.0}}
    if shared is not None:
        samples |= _open(shared) | _counted(shared.counts)
    for name, values in samples.items():
        yield _family(BY_NAME[name], values)
    if shared is not None:
        yield _histogram(BY_NAME["broker_ack_received_seconds"], "received", shared.counts)
        yield _histogram(BY_NAME["broker_ack_stopped_seconds"], "stopped", shared.counts)


def _family(metric: Metric, samples: Samples) -> Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=_names(metric))
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


def _own(own: OwnFigures) -> dict[str, Samples]:
    ingested = own.ingested
    results = {
        "applied": ingested.applied, "dropped": ingested.dropped, "dead": ingested.dead,
        "taken_over": ingested.taken_over,
    }  # fmt: skip
    age: Samples = {} if own.canary_age_s is None else {(): own.canary_age_s}
    return {
        "broker_canary_age_seconds": age,
        "broker_canary_failures_total": {(): own.canary_failures},
        "broker_reconnects_total": {(name,): number for name, number in own.reconnects.items()},
        "broker_ingest_events_total": {(name,): number for name, number in results.items()},
    }


def _open(shared: SharedFigures) -> dict[str, Samples]:
    work, stream = shared.open, shared.stream
    causes = _every("broker_stragglers") | {(cause,): number for cause, number in work.causes.items()}
    return {
        "broker_operations_open": {(): work.open_operations},
        "broker_operations_overdue": {(): work.overdue_operations},
        "broker_executions_unsettled": {(): work.unsettled},
        "broker_oldest_unsettled_seconds": {(): work.oldest_s},
        "broker_open_list_complete": {(): float(work.complete)},
        "broker_stragglers": causes,
        "broker_workers_alive": {(): shared.workers},
        "broker_ingest_backlog_events": {(): stream.backlog},
        "broker_ingest_pending_events": {(): stream.pending},
        "broker_ingest_lag_seconds": {(): stream.lag_s},
        "broker_ingest_dead_events": {(): stream.dead},
    }


_COUNTED: Final = {
    "messages": "broker_messages_total", "refusals": "broker_gate_refusals_total",
    "events": "broker_audit_events_total", "settled_without_lag": "broker_settled_without_lag_total",
    "worker_reconnects": "broker_worker_reconnects_total",
    "worker_canary_failures": "broker_worker_canary_failures_total",
}  # fmt: skip
"""The first part of a counter's field (include/counts.lua) → its metric; the second part is the label."""


def _counted(counts: Mapping[str, int]) -> dict[str, Samples]:
    found = {name: dict(_every(name)) for name in _COUNTED.values()}
    for field, number in counts.items():
        what, *labels = field.split("|")
        if what in _COUNTED:
            found[_COUNTED[what]][tuple(labels)] = number
    return {**found}


def _every(name: str) -> dict[tuple[str, ...], float]:
    """Every value of its label, if it has one, at 0: a rate needs to have seen the 0."""
    return dict.fromkeys(product(*(label.values for label in BY_NAME[name].labels)), 0.0)


def _histogram(metric: Metric, point: str, counts: Mapping[str, int]) -> Family:
    """From fields `point|agent node|disposition|bucket` and `…|sum_us`."""
    found: defaultdict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for field, number in counts.items():
        what, *labels = field.split("|")
        if what == point:
            found[tuple(labels[:-1])][labels[-1]] = number
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=_names(metric))
    for key, fields in sorted(found.items()):
        family.add_metric(key, _cumulative(fields), fields["sum_us"] / 1e6)
    return family


def _cumulative(fields: Mapping[str, int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for n, bound in enumerate([*map(_bound, LAG_BOUNDS_S), "+Inf"]):
        total += fields.get(str(n), 0)
        buckets.append((bound, float(total)))
    return buckets


def _bound(seconds: float) -> str:
    return f"{seconds:.10g}"


def _names(metric: Metric) -> list[str]:
    return [label.name for label in metric.labels]
