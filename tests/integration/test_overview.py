"""The overview: what it says, and that it costs the same however many look, and little more however much is open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis import Redis

import broker
from broker.cancel.census import RUNS_READ
from broker.cancel.standing import share_of, standing_of
from broker.store.claims import Holder, Registration
from broker.store.commands import Commands
from tests.support.parts import Parts, open_parts

RUN = "run-1"
MANY = 1_000


@dataclass
class Cost:
    """What was sent to Redis."""

    commands: int = 0
    round_trips: int = 0


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> Iterator[Cost]:
    cost, submit, round_trip = Cost(), Commands._submit, Commands._round_trip

    def submitted(self: Commands, *args: object) -> object:
        cost.commands += self is commands
        return submit(self, *args)  # type: ignore[arg-type]

    async def sent(self: Commands, *args: object) -> None:
        cost.round_trips += self is commands
        await round_trip(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Commands, "_submit", submitted)
        patch.setattr(Commands, "_round_trip", sent)
        yield cost


async def a_thousand_open(b: broker.Broker, parts: Parts) -> None:
    """One run with one straggler is cancelled, and then copied: 1,000 real cancels would take the test's time."""
    await parts.start(RUN, "x")
    cancel_id = (await b.cancel_run(RUN, deadline=0.001)).cancel_id
    command, key = parts.backend.commands.command, parts.backend.keys.work_list
    pages = {name: await command("HGETALL", getattr(parts.backend.run(RUN), name)) for name in _COPIED}
    (_, told_us) = await command("ZRANGE", parts.backend.run(RUN).unsettled, "0", "0", "WITHSCORES")
    due = str(await parts.operations.now_us())
    for at in range(2, MANY + 1, 100):
        sent = []
        for n in range(at, min(at + 100, MANY + 1)):
            keys = parts.backend.run(f"run-{n}")
            sent += [command("HSET", getattr(keys, name), *flat) for name, flat in pages.items()]
            sent += [command("ZADD", keys.unsettled, told_us, "x"), command("ZADD", key, due, f"run-{n}|{cancel_id}")]
        await asyncio.gather(*sent)


_COPIED = ("cancels", "executions", "intents", "workers")


async def test_a_thousand_open_cancels_cost_few_round_trips_and_a_hundred_viewers_cost_as_one(
    real_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real one only: what is counted is what this side sends."""
    with Redis.from_url(real_redis) as client:
        client.flushall()
    async with broker.connect(real_redis, sweep=False) as b, open_parts(real_redis) as parts:
        await a_thousand_open(b, parts)
        with counting(monkeypatch, b._replica._backend.commands) as cost:
            seen, *others = await asyncio.gather(*(b.overview() for _ in range(100)))
        assert all(other is seen for other in others)
        work = seen.work
        assert (work.open_operations, work.overdue_operations, work.unsettled) == (MANY, MANY, MANY)
        assert sorted(work.causes.values()) == [RUNS_READ, MANY - RUNS_READ]
        assert (len(seen.cancellations), {one.overdue for one in seen.cancellations}) == (100, {True})
        assert cost.commands <= 6 * MANY, cost
        assert cost.round_trips <= 40, cost
        with counting(monkeypatch, b._replica._backend.commands) as cost:
            page = await b.cancellations("open", limit=MANY)
        assert sum(one.outstanding for one in page.cancellations) == MANY
        assert cost.round_trips <= 40, cost


async def test_t21_an_operation_is_overdue_where_another_told_what_it_covers(b: broker.Broker, parts: Parts) -> None:
    """Everywhere the same: the report of the run, the operators' list, and what is counted."""
    for one in ("root", "inside", "outside"):
        await parts.start(RUN, one, parent="" if one == "root" else "root")
    await b.cancel_execution("inside", deadline=0.001)
    await b.cancel_subtree("outside", deadline=600)
    run_wide = await b.cancel_run(RUN, deadline=600)
    assert run_wide.overdue
    page = await b.cancellations("open")
    assert {one.target: one.overdue for one in page.cancellations} == {"inside": True, "outside": False, None: True}
    assert (await b.overview()).work.overdue_operations == 2
    await parts.finish(RUN, "inside")
    assert {one.target: one.overdue for one in (await b.cancellations("open")).cancellations} == {
        "outside": False,
        None: False,
    }
    assert not (await b.report(RUN)).overdue


async def test_what_a_subtree_waits_for_is_counted_exactly_where_it_is_asked_for(
    b: broker.Broker, parts: Parts
) -> None:
    """However deep; with a limit only those that wait longest are looked at."""
    parents = {"root": "", "a": "root", "a1": "a", "a2": "a1", "b": "root"}
    for one, parent in parents.items():
        await parts.start(RUN, one, parent=parent)
    await b.cancel_subtree("a")
    await b.cancel_run(RUN)
    operations, now_us = await parts.reads.operations(RUN), await parts.operations.now_us()
    exact = await standing_of(parts.reads, RUN, operations, now_us)
    assert sorted((one.target, exact[one.cancel_id].outstanding) for one in operations) == [("", 5), ("a", 3)]
    some = await standing_of(parts.reads, RUN, operations, now_us, look_at=2)
    assert sorted((one.target, some[one.cancel_id].outstanding) for one in operations) == [("", 5), ("a", 2)]


def test_the_more_runs_the_fewer_stragglers_of_each() -> None:
    assert [share_of(runs) for runs in (0, 1, 10, 100, 10_000, 10**6)] == [1000, 1000, 1000, 100, 1, 1]


async def test_silent_workers_come_first_and_those_that_beat_keep_their_order(b: broker.Broker, parts: Parts) -> None:
    for worker_id, ttl_s in (("w-3", 60.0), ("silent", 0.001), ("w-1", 60.0), ("w-2", 60.0)):
        await parts.claims.new_incarnation(worker_id)
        await parts.claims.heartbeat(Holder(worker_id, 1), "gpu", 2, ttl_s)
    roster = b._replica.roster

    async def listed(limit: int) -> tuple[list[str], bool]:
        page = await roster.longest_silent(limit)
        return [one.worker_id for one in page.workers], page.next_cursor is not None

    assert await listed(10) == (["silent", "w-1", "w-2", "w-3"], False)
    await parts.claims.heartbeat(Holder("w-1", 1), "gpu", 2, 60.0)
    assert await listed(10) == (["silent", "w-1", "w-2", "w-3"], False)
    names, more = await listed(2)
    assert (len(names), more) == (2, True)


async def test_the_lag_of_the_last_minute_is_there_after_the_cancel_has_settled(b: broker.Broker, parts: Parts) -> None:
    await parts.claims.register(RUN, [Registration("x")])
    await parts.start(RUN, "x")
    cancel_id = (await b.cancel_run(RUN)).cancel_id
    await parts.ack(RUN, "x", "received")
    await parts.finish(RUN, "x")
    await parts.sweep_now(RUN, cancel_id)  # puts it aside for an hour
    seen = await b.overview()
    assert seen.work.open_operations == 0
    assert (seen.recent.lag.received.count, seen.recent.lag.stopped.count) == (1, 1)
    assert [one for one in seen.recent.points if one is not None]
