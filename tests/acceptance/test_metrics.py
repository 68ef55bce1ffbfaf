"""/metrics: the table as Prometheus reads it, the same from every replica, and the alert that it sets off."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import pytest

import broker
from broker.cancel.census import Census
from broker.observe.metrics import AGENT_NODES, METRICS, Kind
from broker.store.claims import Holder, Registration
from broker.store.counts import Counts
from tests.support.alerts import Scrape, parse_scrape
from tests.support.redis_server import RedisServer
from tests.support.serving import Served, open_served

RUN = "demo"
STOPPED = Holder("w-stopped", 1)


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with open_served(redis_url) as one:
        yield one


async def scrape(served: Served) -> Scrape:
    answer = await served.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse_scrape(answer.text)


def only(samples: Mapping[frozenset[tuple[str, str]], float]) -> float:
    (value,) = samples.values()
    return value


async def a_fleet_with_one_stopped_worker(served: Served) -> None:
    """Three executions of a run that is cancelled and overdue; the worker of one of them has died."""
    parts = served.parts
    await parts.claims.new_incarnation(STOPPED.worker_id)
    for execution_id in ("a", "b"):
        await parts.start(RUN, execution_id)
    await parts.claims.register(RUN, [Registration("c", agent_node_id="gpu-7")])
    await parts.start(RUN, "c", holder=STOPPED)
    await served.control.cancel_run(RUN, deadline=0.001, reason="demo", requested_by="ops")
    for execution_id in ("a", "b"):
        await parts.finish(RUN, execution_id)
    await Counts(parts.backend).carry(RUN)


async def test_a_stopped_worker_is_named_by_report_and_metrics(served: Served) -> None:
    await a_fleet_with_one_stopped_worker(served)
    (straggler,) = (await served.control.report(RUN)).still_running
    (listed,) = (await served.client.get("/api/v1/cancellations")).json()["cancellations"]
    metrics = await scrape(served)
    running = {labels: number for labels, number in metrics["broker_stragglers"].items() if number}
    assert running == {frozenset({("cause", straggler.cause.value)}): 1}
    assert listed["causes"] == {straggler.cause.value: 1} == {"worker_lost": 1}
    assert only(metrics["broker_executions_unsettled"]) == only(metrics["broker_operations_overdue"]) == 1
    assert only(metrics["broker_oldest_unsettled_seconds"]) > 0
    assert sum(metrics["broker_ack_stopped_seconds_count"].values()) == 2


async def test_every_replica_tells_the_same(served: Served, redis_url: str) -> None:
    await a_fleet_with_one_stopped_worker(served)
    async with broker.connect(redis_url, sweep=False) as other:
        ours, theirs = await served.control.figures.shared(), await other.figures.shared()
        assert ours.counts == theirs.counts
        assert ours.counts["events|requested"] == 1
        assert (ours.open.causes, ours.open.overdue_operations) == (theirs.open.causes, theirs.open.overdue_operations)


async def test_t35_what_is_rendered_is_the_table_and_every_label_is_within_its_bound(served: Served) -> None:
    await a_fleet_with_one_stopped_worker(served)
    await served.client.get("/api/v1/runs/no-such-run")
    await served.client.get("/no/such/path")
    await served.client.request("BREW", "/livez")
    metrics = await scrape(served)
    for metric in METRICS:
        samples = metrics[f"{metric.name}_bucket" if metric.kind is Kind.HISTOGRAM else metric.name]
        for labels in map(dict, samples):
            labels.pop("le", None)
            assert set(labels) == {label.name for label in metric.labels}
            for label in metric.labels:
                assert not label.values or labels[label.name] in label.values
    known = {f"{one.name}{end}" for one in METRICS for end in ("", "_bucket", "_count", "_sum", "_created")}
    assert {name for name in metrics if name.replace("_created", "_total") not in known} <= known
    routes = {dict(labels)["route"] for labels in metrics["broker_http_requests_total"]}
    assert {"/api/v1/runs/{run_id}", "unknown"} <= routes
    assert not any("no-such-run" in route for route in routes)
    assert "other" in {dict(labels)["method"] for labels in metrics["broker_http_requests_total"]}


PROMISED = {
    "published to received": "broker_ack_received_seconds_bucket{agent_node,disposition,le}",
    "published to stopped": "broker_ack_stopped_seconds_bucket{agent_node,disposition,le}",
    "unsettled": "broker_executions_unsettled{}",
    "oldest unsettled age": "broker_oldest_unsettled_seconds{}",
    "stragglers by cause": "broker_stragglers{cause}",
    "overdue": "broker_operations_overdue{}",
    "open operations": "broker_operations_open{}",
    "messages by kind": "broker_messages_total{kind}",
    "gate refusals": "broker_gate_refusals_total{at}",
    "reopened and takeovers": "broker_audit_events_total{event}",
    "reconnects of replicas": "broker_reconnects_total{connection}",
    "reconnects of workers": "broker_worker_reconnects_total{connection}",
    "canary failures of replicas": "broker_canary_failures_total{}",
    "canary failures of workers": "broker_worker_canary_failures_total{}",
    "no canary": "broker_canary_age_seconds{}",
    "ingest backlog": "broker_ingest_backlog_events{}",
    "ingest lag": "broker_ingest_lag_seconds{}",
    "dead events": "broker_ingest_dead_events{}",
    "HTTP": "broker_http_requests_total{method,route,status}",
}


async def test_what_operators_were_promised_is_there_by_name(served: Served) -> None:
    """From the first scrape of a server: a counter that is not there at 0 has no rate when it begins to rise."""
    first = await scrape(served)
    assert {dict(one)["event"] for one in first["broker_audit_events_total"]} >= {"reopened", "takeover"}
    lags = {name for name in PROMISED.values() if "_ack_" in name or "_http_" in name}
    assert {_shape(name, first[name]) for name in first} >= set(PROMISED.values()) - lags
    await a_fleet_with_one_stopped_worker(served)
    then = await scrape(served)
    assert {_shape(name, then[name]) for name in then} >= lags


def _shape(name: str, samples: Mapping[frozenset[tuple[str, str]], float]) -> str:
    """`name{labels}`, the labels sorted."""
    labels = {",".join(sorted(dict(one))) for one in samples}
    return f"{name}{{{' or '.join(sorted(labels))}}}"


async def test_t35_whatever_agent_nodes_are_called_and_however_many_there_are_the_series_are_bounded(
    served: Served,
) -> None:
    """What is no id is refused before it is counted; of the others fifty have a label of their own."""
    many = [f"{'n' * 190}:@.-_{n}" for n in range(AGENT_NODES + 20)]
    hostile = ['"} 1\nbroker_up 0', "a|b", "a\\b", "ä", "x" * 201, "a b", "\x1b[2J"]
    nodes = [*many, *hostile]
    rows = [{"execution_id": f"x{n}", "agent_node_id": node, "status": "running"} for n, node in enumerate(nodes)]
    answer = (await served.client.post(f"/api/v1/runs/{RUN}/executions", json={"executions": rows})).json()
    assert (answer["registered"], {one["error"] for one in answer["refused"]}) == (len(many), {"invalid_id"})
    await asyncio.gather(*(served.parts.start(RUN, f"x{n}") for n in range(len(many))))
    await served.control.cancel_run(RUN)
    await asyncio.gather(*(served.parts.finish(RUN, f"x{n}") for n in range(len(many))))
    await Counts(served.parts.backend).carry(RUN)
    metrics = await scrape(served)
    labels = Counter(dict(one)["agent_node"] for one in metrics["broker_ack_stopped_seconds_count"])
    assert len(labels) == AGENT_NODES + 1
    assert set(labels) - set(many) == {"other"}
    assert sum(metrics["broker_ack_stopped_seconds_count"].values()) == len(many)


async def test_without_redis_a_replica_tells_what_it_knows_of_itself(redis_server: RedisServer) -> None:
    async with open_served(redis_server.url) as served:
        assert only((await scrape(served))["broker_redis_up"]) == 1
        served.control.figures._commands.timeout_s = 0.2
        redis_server.kill()
        metrics = await scrape(served)
        assert only(metrics["broker_redis_up"]) == 0
        assert "broker_operations_open" not in metrics
        assert sum(metrics["broker_http_requests_total"].values()) >= 1
        await asyncio.to_thread(redis_server.restart)


async def test_it_needs_the_scope_observe(served: Served) -> None:
    """Labels name agent nodes; without tokens it is open, like everything."""
    document = (await served.client.get("/openapi.json")).json()
    assert document["paths"]["/metrics"]["get"]["x-required-scope"] == "observe"


async def test_a_scrape_reads_what_is_settled_once(served: Served) -> None:
    """It stays on the work list for a day; only what is due at another time than before is looked at again."""
    await served.parts.start(RUN, "a")
    cancel_id = (await served.control.cancel_run(RUN)).cancel_id
    await served.parts.finish(RUN, "a")
    await served.parts.operations.reschedule(RUN, cancel_id, 1)
    census = served.control.figures._census
    assert (await census.read()).open_operations == 0
    assert due(census) == {(RUN, cancel_id): 1}
    await served.parts.operations.reschedule(RUN, cancel_id, 0)
    await census.read()
    assert due(census) == {(RUN, cancel_id): 0}


def due(census: Census) -> dict[tuple[str, str], int]:
    return {entry: due_us for entry, (due_us, _) in census._work_list._settled.items()}


async def test_the_oldest_stragglers_are_looked_at_and_the_rest_is_counted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, a scrape reads no more than the first thousand of them."""
    monkeypatch.setattr("broker.cancel.census.CAUSES_READ", 3)
    for run_id in ("r1", "r2", "r3"):
        for n in range(2):
            await served.parts.start(run_id, f"{run_id}-{n}")
        await served.control.cancel_run(run_id)
    work = await served.control.figures._census.read()
    assert (work.unsettled, work.open_operations) == (6, 3)
    assert sum(work.causes.values()) == 6
    assert work.causes["not_read"] == 3


async def test_a_subtree_is_overdue_only_by_its_own_stragglers(served: Served) -> None:
    await served.parts.start(RUN, "root")
    await served.parts.start(RUN, "inside", parent="root")
    await served.parts.start(RUN, "outside", parent="root")
    await served.control.cancel_subtree("inside", deadline=0.001)
    assert (await served.control.figures._census.read()).overdue_operations == 1
    await served.control.cancel_subtree("outside", deadline=600)
    await served.parts.finish(RUN, "inside")
    work = await served.control.figures._census.read()
    assert (work.overdue_operations, work.unsettled) == (0, 1)
