"""What is counted of cancels: once for each ack that is applied, however many replicas there are and whoever dies."""

from __future__ import annotations

import asyncio

import pytest

import broker
from broker.cancel.report import percentiles
from broker.observe.metrics import AGENT_NODES, LAG_BOUNDS_S
from broker.store.claims import Ack, Registration
from broker.store.counts import Counts
from tests.support.parts import HOLDER, Parts, open_parts
from tests.support.points import Died, dying

RUN = "run-1"


def samples(counts: dict[str, int], point: str) -> int:
    return sum(n for field, n in counts.items() if field.startswith(f"{point}|") and not field.endswith("|sum_us"))


async def told(b: broker.Broker, parts: Parts, *execution_ids: str, run_id: str = RUN, node: str = "") -> str:
    """These run, and were told to stop. Answers the cancel id."""
    await parts.claims.register(run_id, [Registration(one, agent_node_id=node) for one in execution_ids])
    for one in execution_ids:
        await parts.start(run_id, one)
    return (await b.cancel_run(run_id)).cancel_id


async def carried(parts: Parts, run_id: str = RUN) -> dict[str, int]:
    counts = Counts(parts.backend)
    await counts.carry(run_id)
    return await counts.read()


async def test_an_ack_is_counted_where_it_is_applied_and_a_repeat_is_not(b: broker.Broker, parts: Parts) -> None:
    await told(b, parts, "x", node="gpu-7")
    for _ in range(2):
        await parts.ack(RUN, "x", "received")
    await parts.ack(RUN, "x", "deferred", seq=2)
    for _ in range(2):
        await parts.ack(RUN, "x", "stopped", seq=3)
    counts = await carried(parts)
    assert samples(counts, "received") == samples(counts, "stopped") == 1
    assert any(field.startswith("received|gpu-7|received|") for field in counts)
    assert any(field.startswith("stopped|gpu-7|stopped|") for field in counts)
    assert counts["messages|first"] == 1
    assert (counts["events|requested"], counts["events|settled"]) == (1, 1)


async def test_an_end_that_nothing_was_heard_before_counts_as_heard_too(b: broker.Broker, parts: Parts) -> None:
    """As in the report, so that both tell the same."""
    await told(b, parts, "x", "y")
    await parts.finish(RUN, "x")
    await parts.ack(RUN, "y", "received")
    await parts.finish(RUN, "y")
    counts, report = await carried(parts), await b.report(RUN)
    assert samples(counts, "received") == report.ack_lag.received.count == 2
    assert samples(counts, "stopped") == report.ack_lag.stopped.count == 2
    assert (
        sum(n for field, n in counts.items() if field.startswith("received|none|stopped|") and "sum" not in field) == 1
    )


@pytest.mark.parametrize("page_bytes", [1, 50])
async def test_a_batch_is_read_in_pages(
    b: broker.Broker, parts: Parts, page_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of one byte end everywhere, at the end of the batch too."""
    monkeypatch.setattr("broker.store.counts.PAGE_BYTES", page_bytes)
    await told(b, parts, "x", "y")
    for one in ("x", "y"):
        await parts.finish(RUN, one)
    counts = await carried(parts)
    assert (samples(counts, "stopped"), counts["messages|first"], counts["events|settled"]) == (2, 2, 1)
    assert not await parts.backend.commands.command("EXISTS", parts.backend.keys.counts_batch(RUN))


async def test_what_has_no_lag_is_in_no_histogram(b: broker.Broker, parts: Parts) -> None:
    await parts.claims.register(RUN, [Registration("root"), Registration("never", parent_execution_id="root")])
    await parts.start(RUN, "root")
    await b.cancel_run(RUN)
    counts, report = await carried(parts), await b.report(RUN)
    assert counts["settled_without_lag|never_started"] == 1
    assert samples(counts, "stopped") == report.ack_lag.stopped.count == 0
    assert counts["messages|first"] == 2


async def test_messages_refusals_and_takeovers(b: broker.Broker, parts: Parts) -> None:
    cancel_id = await told(b, parts, "x")
    operation = await parts.operation(RUN, cancel_id)
    await parts.operations.redeliver(RUN, operation, ["x"])
    await parts.operations.redeliver(RUN, operation, ["x"], force=True)
    await parts.start(RUN, "late")
    await parts.claims.register(RUN, [Registration("later")])
    counts = await carried(parts)
    assert [counts[f"messages|{kind}"] for kind in ("first", "redelivery", "forced")] == [1, 1, 1]
    assert (counts["refusals|start"], counts["refusals|register"]) == (1, 2)


async def test_two_replicas_do_not_count_an_ack_twice(b: broker.Broker, parts: Parts, redis_url: str) -> None:
    await told(b, parts, *(f"x{n}" for n in range(20)))
    await asyncio.gather(*(parts.finish(RUN, f"x{n}") for n in range(20)))
    async with open_parts(redis_url, "replica-3") as other:
        ours, theirs = Counts(parts.backend), Counts(other.backend)
        await asyncio.gather(ours.carry(RUN), theirs.carry(RUN), ours.carry(RUN), theirs.carry(RUN))
        assert await ours.read() == await theirs.read()
        assert samples(await theirs.read(), "stopped") == 20


@pytest.mark.parametrize("point", ["counts.collected", "counts.added"])
async def test_a_replica_that_dies_on_the_way_loses_no_count_and_doubles_none(
    b: broker.Broker, parts: Parts, redis_url: str, point: str
) -> None:
    """Killed between the ack and the counts of all: the batch waits in the run, and the next look carries it on."""
    await told(b, parts, "x", "y")
    await parts.finish(RUN, "x")
    with dying(point), pytest.raises(Died):
        await Counts(parts.backend).carry(RUN)
    await parts.finish(RUN, "y")
    async with open_parts(redis_url, "replica-3") as other:
        assert samples(await carried(other), "stopped") == 1, "the batch that was under way"
        assert samples(await carried(other), "stopped") == 2, "and what came behind it"
        assert samples(await carried(other), "stopped") == 2


async def test_a_batch_read_long_ago_is_refused(b: broker.Broker, parts: Parts) -> None:
    """Its marker may have ended: a process that stood still for that long must not add it again."""
    backend = parts.backend
    keys = (backend.keys.counts, backend.keys.nodes, backend.keys.counted_batch(RUN, "1"))
    now_us = await parts.operations.now_us()
    codes = [
        await backend.commands.call(
            backend.scripts.add_counts, keys, "messages|first", "", "", "1",
            collected_us=str(now_us - age_us), most_nodes="50", marker_ttl_s="60",
        )
        for age_us in (601_000_000, 500_000_000, 0)
    ]  # fmt: skip
    assert codes == [["stale"], ["added"], ["known"]]
    assert (await Counts(backend).read()) == {"messages|first": 1}


async def test_t35_agent_nodes_beyond_the_bound_share_a_label(b: broker.Broker, parts: Parts) -> None:
    """However many there are, in one run or in many, the number of series is bounded."""
    counts: dict[str, int] = {}
    for run, many in (("run-1", 130), ("run-2", 30)):
        ids = [f"{run}-x{n}" for n in range(many)]
        await parts.claims.register(run, [Registration(one, agent_node_id=f"{run}-node-{one}") for one in ids])
        await asyncio.gather(*(parts.start(run, one) for one in ids))
        await b.cancel_run(run)
        await asyncio.gather(*(parts.finish(run, one) for one in ids))
        counts = await carried(parts, run)
        nodes = {field.split("|")[1] for field in counts if field.startswith("stopped|")}
        assert len(nodes) == AGENT_NODES + 1
        assert "other" in nodes
    assert samples(counts, "stopped") == 160


async def test_t35_percentiles_of_the_report_are_those_of_the_histogram_within_a_bucket(
    b: broker.Broker, parts: Parts
) -> None:
    """The lags are set by moving the stamp of the message into the past, by 50 µs to 400 s."""
    lags_us = [round(50 * 1.35**n) for n in range(53)]
    await told(b, parts, *(f"x{n}" for n in range(len(lags_us))))
    key, command = parts.backend.run(RUN).intents, parts.backend.commands.command
    for n, lag_us in enumerate(lags_us):
        cancel_id, _, rest = (await command("HGET", key, f"x{n}")).split("|", 2)
        now_us = await parts.operations.now_us()
        await command("HSET", key, f"x{n}", f"{cancel_id}|{now_us - lag_us}|{rest}")
        await parts.claims.ack(RUN, HOLDER, [Ack(f"x{n}", 1, 1, "stopped")])
    counts, lag = await carried(parts), (await b.report(RUN)).ack_lag.stopped
    assert lag.count == len(lags_us)
    assert lag == percentiles([*await _lags_ms(parts)])
    for share, exact_ms in ((0.5, lag.p50_ms), (0.99, lag.p99_ms)):
        low_ms, high_ms = _bucket_of_percentile(counts, share)
        assert low_ms < exact_ms <= high_ms
    total_us = sum(n for field, n in counts.items() if field == "stopped|none|stopped|sum_us")
    assert total_us == pytest.approx(sum(await _lags_ms(parts)) * 1000)


async def _lags_ms(parts: Parts) -> list[float]:
    intents, acks = await parts.reads.intents(RUN), await parts.reads.acks(RUN)
    return [(int(acks[one].settled_at_us) - intents[one].published_at_us) / 1000 for one in acks]


def _bucket_of_percentile(counts: dict[str, int], share: float) -> tuple[float, float]:
    """The bounds of the bucket that this percentile lies in, in milliseconds."""
    bounds = [0.0, *(bound * 1000 for bound in LAG_BOUNDS_S), float("inf")]
    numbers = [counts.get(f"stopped|none|stopped|{n}", 0) for n in range(len(LAG_BOUNDS_S) + 1)]
    seen = 0
    for n, number in enumerate(numbers):
        seen += number
        if seen >= share * sum(numbers):
            return bounds[n], bounds[n + 1]
    raise AssertionError("no sample")
