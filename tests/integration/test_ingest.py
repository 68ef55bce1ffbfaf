"""The event stream, end to end: a plain XADD of any control plane, and what stands in Redis afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import broker
from broker.ingest.consumer import POISON_DELIVERIES
from broker.observe import signals
from tests.support.ingesting import (
    RUN,
    Replica,
    event,
    open_replica,
    pending_of,
    shuffled_with_duplicates,
    status,
)
from tests.support.observer import Observer
from tests.support.points import holding
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[Replica]:
    async with open_replica(redis_url) as opened:
        yield opened


def run_cancel(**fields: Any) -> str:
    return event("run.cancel_requested", **fields)


async def disposition(replica: Replica, execution_id: str) -> str | None:
    ack = await replica.parts.ack_of(RUN, execution_id)
    return ack.disposition if ack else None


# --- order --------------------------------------------------------------------------------------------------------


def forest(number: int, run: str, prefix: str) -> list[str]:
    """Lives of executions as a control plane tells them, one life after the other."""
    events = []
    for n in range(number):
        one, parent = f"{prefix}{n}", f"{prefix}{(n - 1) // 3}" if n else None
        held = {"worker_id": f"w{n % 5}", "start": 1} if n % 2 else {}
        events.append(status("created", one, 1, run=run, status="queued", parent_execution_id=parent))
        events.append(status("started", one, 2, run=run, **held))
        if n % 3:
            events.append(status("updated", one, 3, run=run, status="waiting"))
            events.append(status("updated", one, 4, run=run, status="in_progress"))
        if n % 4 == 1:
            events.append(status("completed", one, 5, run=run, **held))
        if n % 4 == 2:
            events.append(status("failed", one, 5, run=run, status="timed_out"))
    return events


@pytest.mark.parametrize("seed", range(3))
async def test_in_any_order_and_with_duplicates_the_end_is_that_of_the_ordered_stream(
    seed: int, replica: Replica
) -> None:
    shuffled = shuffled_with_duplicates(forest(60, RUN, "e"), random.Random(seed), 0.2)
    await replica.say(*forest(60, "run-2", "s"))
    await replica.say(*shuffled)
    records = await replica.parts.reads.executions(RUN)
    others = await replica.parts.reads.executions("run-2")
    assert {one.replace("e", "s") for one in records} == set(others)
    for one, record in records.items():
        other = others[one.replace("e", "s")]
        assert (record.raw_status, record.claimed, record.start) == (other.raw_status, other.claimed, other.start), one
        assert record.parent_execution_id.replace("e", "s") == other.parent_execution_id
    assert (await replica.parts.reads.run_state(RUN)).active == (await replica.parts.reads.run_state("run-2")).active
    assert (await replica.stream.state()).dead == 0


async def test_an_older_update_never_overwrites_a_newer_one(replica: Replica) -> None:
    await replica.say(status("updated", "x", 20, status="paused"), status("updated", "x", 10, status="running"))
    assert await replica.statuses() == {"x": "paused"}


async def test_a_child_may_come_before_its_parent_and_the_cancel_goes_bottom_up(
    replica: Replica, observer: Observer
) -> None:
    await replica.say(status("started", "leaf", parent_execution_id="middle"))
    await replica.say(status("started", "middle", parent_execution_id="root"), status("started", "root"))
    await replica.say(run_cancel())
    await wait_until(lambda: _told(observer, 3), "all to be told")
    assert await observer.first_attempts() == ["leaf", "middle", "root"]


async def _told(observer: Observer, number: int) -> bool:
    return len(await observer.first_attempts()) >= number


# --- cancels ------------------------------------------------------------------------------------------------------


async def test_a_cancel_before_the_run_s_first_event_closes_its_gate(replica: Replica, observer: Observer) -> None:
    """Nothing of it ever starts."""
    await replica.say(run_cancel(reason="never mind", requested_by="ops@example"))
    await replica.say(status("created", "x"), status("created", "y", parent_execution_id="x"))
    assert await replica.statuses() == {"x": "cancelled", "y": "cancelled"}
    assert (await replica.parts.start(RUN, "x")).code == "cancelled"
    assert [await disposition(replica, one) for one in ("x", "y")] == ["never_started"] * 2
    await replica.say(status("started", "late", worker_id="w"))
    (message,) = await observer.messages()
    assert (message.execution_id, message.source, message.reason, message.start) == ("late", "gate", "never mind", 1)
    operation = await replica.parts.only_operation(RUN)
    assert (operation.requested_by, operation.state) == ("ops@example", "open")


@pytest.mark.parametrize("scope", ["execution", "subtree"])
async def test_a_cancel_of_an_unknown_execution_makes_its_record(scope: str, replica: Replica) -> None:
    await replica.say(event(f"{scope}.cancel_requested", "x"))
    await replica.say(status("created", "x"), status("created", "child", parent_execution_id="x"))
    child = "cancelled" if scope == "subtree" else "pending"
    assert await replica.statuses() == {"x": "cancelled", "child": child}
    assert await disposition(replica, "x") == "never_started"


async def test_a_request_that_is_delivered_again_is_the_same_operation(replica: Replica) -> None:
    await replica.say(status("started", "x"), run_cancel(idempotency_key="k"), run_cancel(idempotency_key="k"))
    await replica.say(run_cancel())
    assert (await replica.parts.only_operation(RUN)).target == ""
    await replica.say(event("subtree.cancel_requested", "x", idempotency_key="k"))
    assert [code for code, _ in await replica.refusals()] == ["idempotency_key_reused"]


async def test_a_cancel_of_what_has_ended_is_no_error(replica: Replica) -> None:
    await replica.say(status("completed", "x"), event("execution.cancel_requested", "x"))
    assert await replica.statuses() == {"x": "succeeded"}
    assert await replica.refusals() == []


async def test_cancelled_by_someone_who_does_not_hold_it_is_a_cancel(replica: Replica, observer: Observer) -> None:
    await replica.say(status("started", "x", 1, worker_id="w"), status("cancelled", "x", 2))
    (message,) = await observer.messages()
    assert (message.execution_id, message.source, message.start) == ("x", "cancel_api", 1)
    assert await replica.statuses() == {"x": "cancelled"}
    assert (await replica.parts.only_operation(RUN)).state == "open"
    await replica.say(status("cancelled", "x", 3, worker_id="w"))
    assert await disposition(replica, "x") == "stopped"


async def test_a_cancel_that_takes_long_holds_up_no_other_run(replica: Replica) -> None:
    with holding("cancel.listed") as held:
        await replica.xadd(run_cancel(), status("created", "x", run="run-2"))
        await held.arrived()

        async def is_there() -> bool:
            return await replica.statuses("run-2") == {"x": "pending"}

        await wait_until(is_there, "the other run's event")
        assert await pending_of(replica.url) == {"replica-1": 1}, "acknowledged only when it is durable"
    await replica.done()
    assert (await replica.parts.only_operation(RUN)).scope == "run"


async def test_an_execution_without_a_run_is_its_own(replica: Replica) -> None:
    await replica.say(status("created", "x", run=""), event("execution.cancel_requested", "x", run=""))
    assert await replica.statuses("@x") == {"x": "cancelled"}
    await replica.say(status("created", "y"), status("started", "y", run=""))
    assert await replica.statuses() == {"y": "running"}, "found where it is known"


# --- acks ---------------------------------------------------------------------------------------------------------


def ack(execution_id: str, disposition: str = "stopped", **fields: Any) -> str:
    said: dict[str, Any] = {"worker_id": "w", "start": 1, "seq": 1, "disposition": disposition}
    return event("execution.ack", execution_id, **(said | fields))


async def test_an_ack_by_event_settles(replica: Replica) -> None:
    await replica.say(status("started", "x", worker_id="w"), run_cancel())
    await wait_until(lambda: _phase(replica, "published"), "the walk")
    await replica.say(ack("x", "received"), ack("x", "received", worker_id="stranger"))
    assert await disposition(replica, "x") == "received"
    await replica.say(ack("x", seq=2, outcome="cancelled"), ack("x", seq=2), ack("x", "refused", seq=3))
    assert await disposition(replica, "x") == "stopped"
    assert (await replica.parts.only_operation(RUN)).state == "settled"
    assert await replica.refusals() == []


async def _phase(replica: Replica, phase: str) -> bool:
    return (await replica.parts.only_operation(RUN)).phase == phase


async def test_an_ack_before_its_start_is_the_evidence_of_it(replica: Replica) -> None:
    await replica.say(status("created", "x"), run_cancel())
    await wait_until(lambda: _phase(replica, "published"), "the walk")
    assert await disposition(replica, "x") == "never_started"
    await replica.say(ack("x", "received"))
    assert await disposition(replica, "x") == "received"
    await replica.say(ack("x", seq=2), status("started", "x", worker_id="w"))
    assert await disposition(replica, "x") == "stopped"
    assert (await replica.parts.only_operation(RUN)).state == "settled"


async def test_an_ack_of_what_nobody_knows_makes_its_record(replica: Replica) -> None:
    await replica.say(ack("x"), ack("y", "received"))
    assert await replica.statuses() == {"x": "cancelled", "y": "running"}
    assert await replica.refusals() == [("not_cancelled", "there is no cancel of this execution")]
    record = (await replica.parts.reads.executions(RUN))["x"]
    assert (record.claimed, record.start) == (False, "1")


# --- poison -------------------------------------------------------------------------------------------------------

POISON = [
    (b"{", "invalid_input"),
    (b"\xff\xfe\x00", "invalid_input"),
    (status("created", "x", status=["queued"]).encode(), "invalid_input"),
    (status("created", "../{x}|").encode(), "invalid_id"),
    (status("created", "x", status="x" * 70_000).encode(), "invalid_input"),
    (b"x" * 200_000, "invalid_input"),
]


async def test_poison_is_buried_with_its_reason_and_stops_nothing(replica: Replica) -> None:
    ids = []
    for n, (poison, _) in enumerate(POISON):
        ids += await replica.xadd(poison)
        await replica.xadd(status("created", f"good-{n}"))
    ids += await replica.xadd("x", field="evnt")
    await replica.done()
    assert set(await replica.statuses()) == {f"good-{n}" for n in range(len(POISON))}
    dead = {one.source_id: one for one in await replica.stream.dead()}
    assert [dead[one].code for one in ids] == [*(code for _, code in POISON), "invalid_input"]
    assert dead[ids[1]].payload.encode("utf-8", "surrogateescape") == b"\xff\xfe\x00"
    assert (dead[ids[5]].cut, dead[ids[5]].reason) == (True, "event of 200000 bytes: allowed are up to 65536")
    assert "evnt" in dead[ids[6]].reason


async def test_what_comes_from_the_future_is_counted_and_dropped(replica: Replica) -> None:
    await replica.say(event("execution.teleported", "x"), status("created", "x", v=2), status("created", "y"))
    assert await replica.statuses() == {"y": "pending"}
    assert replica.consumer.counts.dropped == 2
    assert await replica.refusals() == []


async def test_what_contradicts_what_is_known_is_buried(replica: Replica) -> None:
    await replica.say(status("created", "x", parent_execution_id="a"))
    await replica.say(status("created", "x", run="run-2"), status("created", "x", parent_execution_id="b"))
    assert sorted(code for code, _ in await replica.refusals()) == ["execution_in_other_run", "parent_conflict"]


async def test_an_event_that_redis_refuses_is_buried_alone(replica: Replica) -> None:
    """Another program has put something else where a run should be."""
    backend = replica.parts.backend
    await backend.commands.command("SET", backend.run("run-2").executions, "not a hash", "EX", "60")
    await replica.say(status("created", "x", run="run-2"), status("created", "y"), status("created", "z", run="run-2"))
    assert await replica.statuses() == {"y": "pending"}
    assert [code for code, _ in await replica.refusals()] == ["store_refused"] * 2


async def test_dead_events_are_listed_in_pages_and_replayed(redis_url: str, replica: Replica) -> None:
    await replica.say(status("created", "a|b"), status("created", "x", parent_execution_id="a"), b"{")
    await replica.say(status("created", "x", parent_execution_id="b"))
    async with broker.connect(redis_url, sweep=False) as b:
        first = await b.dead_events(limit=2)
        second = await b.dead_events(cursor=first.cursor, limit=2)
        assert (len(first.entries), len(second.entries), second.cursor) == (2, 1, None)
        conflict = second.entries[0]
        assert conflict.code == "parent_conflict"
        await replica.parts.backend.commands.command("DEL", *replica.parts.backend.run(RUN))
        replayed = await b.replay_events([conflict.dead_id])
        assert list(replayed) == [conflict.dead_id]
        await replica.done()
        assert await replica.statuses() == {"x": "pending"}
        assert (await b.ingest_state()).dead == 2
        with pytest.raises(broker.NotFound, match="not found"):
            await b.replay_events([conflict.dead_id])
        with pytest.raises(broker.InvalidInput, match="allowed are ids of the stream"):
            await b.replay_events(["-"])
        with pytest.raises(broker.InvalidInput, match="allowed are 1 to 1000"):
            await b.dead_events(limit=0)


async def test_publishing_answers_for_each_event(redis_url: str) -> None:
    good = {"v": 1, "type": "execution.created", "run_id": RUN, "execution_id": "x"}
    not_json = [good | {"extra": float("nan")}, {1: object()}]
    events = [good, "junk", good | {"execution_id": "a|b"}, good | {"v": 2}, *not_json]
    async with broker.connect(redis_url, sweep=False, ingest=True) as b:
        answers = await b.publish_events(events)
        assert [one.error for one in answers] == [
            None, "invalid_input", "invalid_id", "invalid_input", "invalid_input", "invalid_input",
        ]  # fmt: skip
        assert [one.entry_id is None for one in answers] == [False, True, True, True, True, True]

        async def is_applied() -> bool:
            state = await b.ingest_state()
            return (state.backlog, state.pending, state.consumers) == (0, 0, 1)

        await wait_until(is_applied, "the event to be applied")
        assert (await b.preview(RUN)).run_id == RUN


# --- replicas -----------------------------------------------------------------------------------------------------


async def test_what_a_dead_replica_left_another_takes_over_and_nothing_happens_twice(
    redis_url: str, observer: Observer
) -> None:
    """It dies between applying and acknowledging."""
    async with open_replica(redis_url, "dies") as first:
        with holding("ingest.applied") as held:
            await first.xadd(status("started", "x", 1, worker_id="w"), run_cancel())
            await held.arrived()
            await first.consumer.close(0.0)
        assert await pending_of(redis_url) == {"dies": 2}
    async with open_replica(redis_url, "lives", idle=0.0, takeover=0.05) as second:
        await second.done()
        assert second.consumer.counts.taken_over == 2
        assert await second.statuses() == {"x": "cancelled"}
        assert (await second.parts.only_operation(RUN)).scope == "run"
    assert await observer.first_attempts() == ["x"]


async def test_what_kills_every_process_is_buried_and_those_read_with_it_are_not(redis_url: str) -> None:
    """Each process dies between applying and acknowledging, as soon as it has the killer."""
    async with open_replica(redis_url, "looker", started=False) as looker:
        (killer,) = await looker.xadd(status("created", "killer", run="run-9"))
        await looker.xadd(*(status("created", f"good-{n}") for n in range(5)))
        deaths = 0
        while (await looker.stream.state()).dead == 0:
            async with open_replica(redis_url, f"victim-{deaths}", idle=0.0, takeover=0.0, block=0.01) as victim:
                with holding_run("run-9") as held:
                    await wait_until(lambda: _has_died_or_all_is_done(victim, held), "the end of the process", 30.0)
                    await victim.consumer.close(0.0)
                deaths += held.is_set()
        assert deaths == POISON_DELIVERIES
        (dead,) = await looker.stream.dead()
        assert (dead.source_id, dead.code) == (killer, "poison")
        assert f"given out {POISON_DELIVERIES} times" in dead.reason
        assert len(await looker.statuses()) == 5
        assert (await looker.stream.state()).pending == 0


@contextmanager
def holding_run(run_id: str) -> Iterator[asyncio.Event]:
    """Who has applied something of this run comes no further; the event says that somebody stands there."""
    arrived, never = asyncio.Event(), asyncio.Event()

    async def listener(point: str, subject: str) -> None:
        if (point, subject) == ("ingest.applied", run_id):
            arrived.set()
            await never.wait()

    with signals.listening(listener):
        yield arrived


async def _has_died_or_all_is_done(replica: Replica, died: asyncio.Event) -> bool:
    state = await replica.stream.state()
    return died.is_set() or (state.backlog, state.pending) == (0, 0)


async def test_what_waits_for_redis_is_no_poison(redis_url: str) -> None:
    """To be read again by the one who has it is no delivery, however often."""
    async with open_replica(redis_url, "one", started=False) as one:
        await one.stream.ensure_group()
        ids = await one.xadd(status("created", "a"), status("created", "b"))
        await one.parts.backend.commands.command("XREADGROUP", "GROUP", "ingest", "one", "STREAMS", "cb:events", ">")
        for _ in range(POISON_DELIVERIES + 1):
            assert [entry.entry_id for entry in await one.stream.ours("-", 10)] == ids
        assert [entry.entry_id for entry in await one.stream.ours(ids[0], 10)] == ids[1:]
        assert {entry.deliveries for entry in await one.stream.unacknowledged(0, "-", 10)} == {1}


async def test_two_replicas_share_the_stream(redis_url: str) -> None:
    async with open_replica(redis_url, "one", batch=3) as one, open_replica(redis_url, "two", batch=3) as two:
        await one.say(*(status("completed", f"e{n}", run=f"run-{n % 7}") for n in range(100)))
        assert one.consumer.counts.applied + two.consumer.counts.applied == 100


async def test_a_consumer_that_is_long_dead_is_forgotten_but_not_what_it_left(redis_url: str) -> None:
    async with open_replica(redis_url, "one", started=False) as one, open_replica(redis_url, "two") as two:
        await one.stream.ensure_group()
        for name in ("empty", "full"):
            await one.parts.backend.commands.command("XGROUP", "CREATECONSUMER", "cb:events", "ingest", name)
        await two.consumer.close()
        await one.xadd(status("created", "x"))
        await one.parts.backend.commands.command(
            "XREADGROUP", "GROUP", "ingest", "full", "COUNT", "1", "STREAMS", "cb:events", ">"
        )
        assert await one.stream.forget_idle(-1) == ["empty"]
        assert await pending_of(redis_url) == {"full": 1}


async def test_the_stream_is_trimmed_below_what_is_pending_and_never_above(redis_url: str) -> None:
    async with open_replica(redis_url, "one", trim=0.0) as one:
        ids = []
        with holding("ingest.applied") as held:
            await one.say(status("created", "a"))
            ids += await one.xadd(status("created", "b"))
            await held.arrived()
        for n in range(5):
            ids += await one.xadd(status("created", f"c{n}", run="run-2"))
        await one.done()

        async def trimmed() -> bool:
            await one.stream.trim()
            return int(await one.parts.backend.commands.command("XLEN", "cb:events")) <= 1

        await wait_until(trimmed, "all but the last to be trimmed")
        assert await one.statuses("run-2") == {f"c{n}": "pending" for n in range(5)}


async def test_lag_and_backlog_are_visible(redis_url: str) -> None:
    async with open_replica(redis_url, "one", started=False) as one:
        assert (await one.stream.state())[:2] == (0, 0)
        await one.stream.ensure_group()
        await one.xadd(status("created", "a"), status("created", "b"), status("created", "c"))
        await one.parts.backend.commands.command(
            "XREADGROUP", "GROUP", "ingest", "gone", "COUNT", "1", "STREAMS", "cb:events", ">"
        )
        state = await one.stream.state()
        assert (state.backlog, state.pending, state.consumers, state.dead) == (2, 1, 1, 0)
        assert state.lag_s >= 0
        assert await one.stream.trim() == 0


async def test_what_others_trimmed_before_it_was_read_is_no_backlog(redis_url: str) -> None:
    """The server goes on to count it as unread, for ever."""
    async with open_replica(redis_url, "one", started=False) as one:
        await one.stream.ensure_group()
        command = one.parts.backend.commands.command
        await one.xadd(status("created", "first"))
        await command("XREADGROUP", "GROUP", "ingest", "gone", "STREAMS", "cb:events", ">")
        await one.xadd(*(status("created", f"e{n}") for n in range(9)))
        await command("XTRIM", "cb:events", "MAXLEN", "4")
        assert (await one.stream.state()).backlog in (3, 4), "what is there, less what may be pending"
        await command("XREADGROUP", "GROUP", "ingest", "gone", "STREAMS", "cb:events", ">")
        state = await one.stream.state()
        assert (state.backlog, state.pending) == (0, 5)
        await one.xadd(status("created", "last"))
        assert (await one.stream.state()).backlog == 1


async def test_it_goes_on_after_a_restart_of_redis(redis_server: RedisServer) -> None:
    async with open_replica(redis_server.url, "one") as one:
        await one.say(status("created", "a"))
        redis_server.kill()
        redis_server.restart()
        await one.say(status("created", "b"))
        assert await one.statuses() == {"a": "pending", "b": "pending"}


async def test_it_goes_on_after_stream_and_group_are_lost(redis_url: str) -> None:
    async with open_replica(redis_url, "one", block=0.05) as one:
        await one.say(status("created", "a"))
        await one.parts.backend.commands.command("FLUSHALL")
        await one.xadd(status("created", "a"))

        async def is_back() -> bool:
            return await one.statuses() == {"a": "pending"}

        await wait_until(is_back, "the group to be made again")
        assert await one.parts.claims.run_of("a") == RUN, "its index, too"


async def test_a_replica_that_stops_ends_what_it_has_in_hand(redis_url: str) -> None:
    async with open_replica(redis_url, "one") as one:
        with holding("ingest.applied") as held:
            await one.xadd(status("created", "a"))
            await held.arrived()
            closing = asyncio.create_task(one.consumer.close())
            await asyncio.wait({closing}, timeout=0)
            held.release()
            await closing
        assert await pending_of(redis_url) == {}, "acknowledged, and gone from the group"
