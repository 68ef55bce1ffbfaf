"""Workers without Redis: the verbs that a server speaks for them, and the poll that waits for a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

import broker
from broker.protocol.states import Disposition
from broker.store.claims import Ack, Holder, Registration
from broker.worker import cancel_feed, long_poll
from broker.worker.long_poll import Beat
from broker.worker.remote import RemoteWorkers, Started
from tests.support.fleet import SELDOM_S
from tests.support.parts import Parts, open_parts
from tests.support.points import holding
from tests.support.wait import wait_until

RUN = "run-1"
LONG_S = 60.0
"""A patience that no test uses up: what ends the poll is what is tested."""


@pytest.fixture(autouse=True)
def seldom_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beat comes while a poll stands, unless a test says so: its look at the epochs is not what delivers."""
    monkeypatch.setattr(long_poll, "BEAT_EVERY_S", SELDOM_S)


@dataclass(frozen=True)
class Remote:
    """One server's broker, and a worker that speaks through it."""

    url: str
    control: broker.Broker
    parts: Parts
    holder: Holder

    @property
    def workers(self) -> RemoteWorkers:
        return self.control.remote

    async def start(self, execution_id: str, *, parent: str = "", holder: Holder | None = None) -> Started:
        return await self.workers.start(RUN, Registration(execution_id, "pending", parent), holder or self.holder)

    async def beat(self, *held: str, wait_s: float = 0.0, holder: Holder | None = None) -> Beat:
        named = [(RUN, one, None) for one in held]
        return await self.workers.beat(holder or self.holder, "", named, wait_s)

    async def ack(self, execution_id: str, disposition: str, *, seq: int = 1, start: int = 1) -> str:
        ack = Ack(execution_id, start, seq, disposition)
        return await self.workers.ack(RUN, self.holder.worker_id, self.holder.incarnation, ack)

    async def stop(self, execution_id: str, start: int = 1) -> str:
        return await self.workers.finish(RUN, execution_id, self.holder, start, "cancelled", Disposition.STOPPED)

    async def standing(self, *held: str) -> asyncio.Task[Beat]:
        """A long poll that has read everything and waits."""
        with holding("poll.waiting") as point:
            poll = asyncio.create_task(self.beat(*held, wait_s=LONG_S))
            await point.arrived()
        return poll


@asynccontextmanager
async def open_remote(url: str) -> AsyncIterator[Remote]:
    async with broker.connect(url, sweep=False) as control, open_parts(url) as parts:
        yield Remote(url, control, parts, Holder("w1", await control.remote.begin("w1")))


async def test_a_whole_life_of_a_worker_without_redis(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        assert await remote.start("leaf") == ("claimed", 1, None)
        poll = await remote.standing("leaf")
        await remote.control.cancel_run(RUN, reason="enough", requested_by="ops", grace=2.5)

        (intent,) = (await poll).intents
        assert (intent.execution_id, intent.start, intent.force) == ("leaf", 1, False)
        assert (intent.source, intent.reason, intent.requested_by, intent.grace_s) == (
            "cancel_tree", "enough", "ops", 2.5,
        )  # fmt: skip
        assert await remote.ack("leaf", "received") == "applied"
        assert (await remote.control.report(RUN)).still_running[0].cause == "stopping"
        assert await remote.stop("leaf") == "settled"
        report = await remote.control.report(RUN)
        assert (report.state, dict(report.dispositions)) == ("settled", {"stopped": 1})


async def test_a_start_under_a_closed_gate_is_answered_with_the_cancel(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("root")
        await remote.control.cancel_run(RUN, reason="closed")
        code, start, intent = await remote.start("late", parent="root")
        assert (code, start) == ("cancelled", 0)
        assert intent is not None
        assert (intent.execution_id, intent.reason) == ("late", "closed")


async def test_a_repeated_start_gets_the_same_answer(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        assert (await remote.start("leaf")).start == 1
        assert (await remote.start("leaf")).start == 1
        await remote.control.cancel_run(RUN)
        code, start, _ = await remote.start("leaf")
        assert (code, start) == ("cancelled", 1)


async def test_a_claim_of_a_live_worker_stays_and_that_of_a_dead_one_is_superseded(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        other = Holder("w2", await remote.workers.begin("w2"))
        with pytest.raises(broker.AlreadyClaimed):
            await remote.start("leaf", holder=other)
        await _expire(remote, "w1")
        assert await remote.start("leaf", holder=other) == ("claimed", 2, None)
        assert [one.start for one in (await remote.beat("leaf")).superseded] == [2]


async def test_what_cannot_start_is_refused_with_its_error(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf", parent="root")
        with pytest.raises(broker.ParentConflict):
            await remote.start("leaf", parent="other")
        with pytest.raises(broker.ExecutionInOtherRun):
            await remote.workers.start("run-2", Registration("leaf"), remote.holder)
        await remote.workers.finish(RUN, "leaf", remote.holder, 1, "succeeded")
        with pytest.raises(broker.AlreadyTerminal):
            await remote.start("leaf")
        with pytest.raises(broker.InvalidInput, match="never given"):
            await remote.start("fresh", holder=Holder("w1", 7))
        with pytest.raises(broker.InvalidInput, match="never given"):
            await remote.beat(holder=Holder("nobody", 1))


async def test_a_second_process_of_one_worker_id_waits_for_the_first_to_end(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        with pytest.raises(broker.WorkerIdInUse):
            await remote.workers.begin("w1")


async def test_a_poll_is_answered_when_a_newer_process_has_the_worker_id(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "BEAT_EVERY_S", 0.01)
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        poll = await remote.standing("leaf")
        await remote.parts.backend.commands.command("INCR", "cb:worker:w1:inc")
        assert (await poll).fenced
        with pytest.raises(broker.Fenced):
            await remote.start("other")


async def test_an_ack_without_incarnation_counts_as_the_claims_own(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        await remote.control.cancel_run(RUN)
        assert await remote.workers.ack(None, "w2", None, Ack("leaf", 1, 1, "stopped")) == "late"
        assert await remote.workers.ack(None, "w1", None, Ack("leaf", 2, 1, "stopped")) == "late"
        assert await remote.workers.ack(None, "w1", None, Ack("leaf", 1, 1, "stopped")) == "applied"
        assert await remote.workers.ack(None, "w1", None, Ack("leaf", 1, 1, "stopped")) == "repeat"
        with pytest.raises(broker.NotFound):
            await remote.workers.ack(None, "w1", None, Ack("nobody", 1, 1, "stopped"))


async def test_an_end_of_another_start_is_late(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        assert await remote.stop("leaf", start=9) == "late"
        with pytest.raises(broker.NotFound):
            await remote.stop("nobody")
        assert await remote.workers.finish(None, "leaf", remote.holder, 1, "queued") == "released"


async def test_an_execution_without_a_run_lives_the_same_life(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        assert (await remote.workers.start(None, Registration("alone"), remote.holder)).code == "claimed"
        await remote.control.cancel_execution("alone")
        (intent,) = (await remote.workers.beat(remote.holder, "", [(None, "alone", 1)])).intents
        assert intent.run_id == "@alone"
        assert await remote.workers.ack(None, "w1", None, Ack("alone", 1, 1, "stopped")) == "applied"
        assert not (await remote.workers.beat(remote.holder, "", [(None, "alone", 1)])).intents


async def _expire(remote: Remote, worker_id: str) -> None:
    async with Redis.from_url(remote.url) as client:
        await client.delete(f"cb:worker:{worker_id}")


# --- the poll ----------------------------------------------------------------------------------------


async def test_an_intent_that_stands_already_answers_the_poll(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        await remote.control.cancel_run(RUN)
        assert [one.execution_id for one in (await remote.beat("leaf", wait_s=LONG_S)).intents] == ["leaf"]


async def test_what_is_acked_does_not_answer_the_next_poll(redis_url: str) -> None:
    """Until it is forced: that is news, until an ack has come after it."""
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        cancelled = await remote.control.cancel_run(RUN, force_after=0.0)
        await remote.beat("leaf", wait_s=LONG_S)
        await remote.ack("leaf", "received", seq=1)
        poll = await remote.standing("leaf")
        assert not poll.done()
        await remote.parts.sweep_now(RUN, cancelled.cancel_id)
        assert [one.force for one in (await poll).intents] == [True]
        await remote.ack("leaf", "received", seq=2)
        poll = await remote.standing("leaf")
        assert not poll.done()
        assert await remote.stop("leaf") == "settled"
        remote.workers.close()
        assert (await poll).intents == ()


async def test_what_is_not_acked_is_said_again_and_no_poll_spins(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        await remote.control.cancel_run(RUN)
        await remote.beat("leaf", wait_s=LONG_S)
        poll = await remote.standing("leaf")  # it would not stand if the same answer came at once
        assert [one.execution_id for one in (await poll).intents] == ["leaf"]


async def test_a_lost_subscription_is_made_again_and_what_was_missed_is_read(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        poll = await remote.standing("leaf")
        async with Redis.from_url(redis_url) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        await remote.control.cancel_run(RUN)
        assert (await poll).intents


async def test_a_poll_without_push_is_answered_by_the_epoch(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "BEAT_EVERY_S", 0.01)
    monkeypatch.setattr(long_poll.LongPoll, "_hear", lambda *_: None)
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        poll = await remote.standing("leaf")
        await remote.control.cancel_run(RUN)
        assert (await poll).intents


async def test_an_intent_between_the_confirmation_and_the_read_is_not_missed(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        with holding("poll.confirmed") as point:
            poll = asyncio.create_task(remote.beat("leaf", wait_s=LONG_S))
            await point.arrived()
            await remote.control.cancel_run(RUN)
        assert (await poll).intents


async def test_the_heart_beats_while_a_poll_stands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "BEAT_EVERY_S", 0.01)
    async with open_remote(redis_url) as remote:
        await remote.start("leaf")
        poll = await remote.standing("leaf")
        await _expire(remote, "w1")
        await wait_until(lambda: remote.parts.claims.is_alive("w1"), "the heart to beat again")
        poll.cancel()


async def test_a_poll_that_ends_leaves_no_subscription(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel_feed, "LINGER_S", 0.0)
    channel = "cb:{run-1}:cancel:leaf"
    async with open_remote(redis_url) as remote, Redis.from_url(redis_url) as client:

        async def subscribed() -> bool:
            return bool(await client.pubsub_numsub(channel) == [(channel.encode(), 1)])

        polls = [await remote.standing("leaf"), await remote.standing("leaf")]
        assert remote.workers.channels == {channel}
        assert await subscribed()
        polls[0].cancel()
        await wait_until(lambda: remote.workers.polls == 1, "the first poll to end")
        assert await subscribed()
        polls[1].cancel()

        async def given_up() -> bool:
            return not remote.workers.channels and not await subscribed()

        await wait_until(given_up, "the channel to be given up")


async def test_polls_that_follow_each_other_share_one_subscription(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        for _ in range(3):
            poll = await remote.standing("leaf")
            poll.cancel()
            await asyncio.wait([poll])
            assert len(remote.workers.channels) == 1


async def test_a_server_that_stops_answers_its_polls(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        poll = await remote.standing("leaf")
        remote.workers.close()
        assert (await poll).intents == ()
        assert (await remote.beat("leaf", wait_s=LONG_S)).intents == ()


async def test_each_poll_hears_only_its_own(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        ids = [f"leaf-{number}" for number in range(200)]
        await asyncio.gather(*(remote.start(one) for one in ids))
        polls = [asyncio.create_task(remote.beat(one, wait_s=LONG_S)) for one in ids]
        await remote.control.cancel_run(RUN)
        answers = await asyncio.gather(*polls)
        assert [[one.execution_id for one in answer.intents] for answer in answers] == [[one] for one in ids]


# --- the list of workers -----------------------------------------------------------------------------


async def test_workers_are_listed_alive_and_dead_until_they_leave(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.workers.begin("w2", "gpu")
        await remote.beat("a", "b")
        with pytest.raises(broker.WorkerAlive):
            await remote.control.declare_dead("w2", 1)
        await _expire(remote, "w2")
        assert [one.incarnation for one in (await remote.control.workers()).workers] == [1, 1]
        assert await remote.control.declare_dead("w2", 1, "pod gone") == 2
        async with broker.Worker(redis_url, worker_id="w3"):
            page = await remote.control.workers()
            assert [(one.worker_id, one.incarnation, one.alive, one.held) for one in page.workers] == [
                ("w1", 1, True, 2), ("w2", 1, False, None), ("w3", 1, True, 0),
            ]  # fmt: skip
        page = await remote.control.workers()
        assert [one.worker_id for one in page.workers] == ["w1", "w2"]
        assert page.next_cursor is None


async def test_the_list_of_workers_is_read_in_pages(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        for name in ("w3", "w2", "w4"):
            await remote.workers.begin(name)
        first = await remote.control.workers(limit=3)
        assert ([one.worker_id for one in first.workers], first.next_cursor) == (["w1", "w2", "w3"], "w3")
        rest = await remote.control.workers(cursor="w3", limit=3)
        assert ([one.worker_id for one in rest.workers], rest.next_cursor) == (["w4"], None)
        with pytest.raises(broker.InvalidInput):
            await remote.control.workers(limit=0)


async def test_a_worker_that_was_not_seen_for_a_day_is_taken_off(redis_url: str) -> None:
    async with open_remote(redis_url) as remote:
        await remote.parts.backend.commands.command("ZADD", "cb:workers", "1", "long-gone")
        await remote.beat()
        assert [one.worker_id for one in (await remote.control.workers()).workers] == ["w1"]
