"""A run, followed over a real socket: every ack, every state, and nothing lost between two connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
from redis.asyncio import Redis

import broker
from broker.errors import ExecutionCancelled
from tests.support.events import reading
from tests.support.points import PATIENCE_S
from tests.support.serving import Served, open_served
from tests.support.wait import wait_until

RUN = "nightly"
LEAVES = [f"leaf-{number}" for number in range(12)]


class Bodies:
    """A worker whose bodies obey a cancel as soon as they may."""

    def __init__(self, worker: broker.Worker) -> None:
        self._worker = worker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.may_end = asyncio.Event()

    async def run(self, *execution_ids: str, slow: bool = False) -> None:
        """Returns when all stand at their first line."""
        inside = [asyncio.Event() for _ in execution_ids]
        for one, begun in zip(execution_ids, inside, strict=True):
            self._tasks[one] = asyncio.create_task(self._body(one, begun, slow))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(begun.wait() for begun in inside))

    async def _body(self, execution_id: str, begun: asyncio.Event, slow: bool) -> None:
        with suppress(ExecutionCancelled):
            async with self._worker.execution(RUN, execution_id):
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    if slow:
                        await self.may_end.wait()

    async def end(self) -> None:
        self.may_end.set()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with open_served(redis_url) as one:
        yield one


@pytest.fixture
async def bodies(redis_url: str, served: Served) -> AsyncIterator[Bodies]:
    async with broker.Worker(redis_url, worker_id="w-1") as worker:
        running = Bodies(worker)
        try:
            yield running
        finally:
            await running.end()


async def register(served: Served, *execution_ids: str) -> None:
    await served.control.register(RUN, [broker.Execution(one) for one in execution_ids])


async def subscribers(served: Served, redis_url: str) -> int:
    """How many connections are subscribed to the acks of the run."""
    async with Redis.from_url(redis_url) as client:
        return int((await client.pubsub_numsub(f"cb:{{{RUN}}}:ack-events"))[0][1])


async def until_unsubscribed(served: Served, redis_url: str) -> None:
    async def nobody() -> bool:
        return await subscribers(served, redis_url) == 0

    await wait_until(nobody, "nobody to be subscribed")


async def test_every_ack_and_every_state_of_a_cancel_is_sent_once(served: Served, bodies: Bodies) -> None:
    await register(served, "root", *LEAVES)
    await bodies.run(*LEAVES, slow=True)
    async with reading(served.client, RUN, until="settled") as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        first = await stream.until("snapshot")
        assert (first.data["why"], first.data["operations"], first.data["outstanding"]) == ("start", [], 0)
        report = await served.control.cancel_run(RUN, reason="user\nsaid", requested_by="ops")
        while len(stream.acks) < len(LEAVES) + 1:
            await stream.until("ack")
        bodies.may_end.set()
        seen = await stream.rest()
    assert seen[-1].name == "settled"
    expected = Counter([(one, word) for one in LEAVES for word in ("received", "stopped")])
    assert Counter(stream.acks) == expected + Counter([("root", "never_started")])
    states = [sent.data["state"] for sent in seen if sent.name == "operation"]
    assert states[-1] == "settled"
    noted = [sent.data for sent in seen if sent.name == "audit"]
    assert [one["event"] for one in noted] == ["requested", "published", "settled"]
    assert (noted[0]["by"], noted[0]["reason"], noted[0]["cancel_id"]) == ("ops", "user\nsaid", report.cancel_id)


async def test_a_stream_that_was_cut_in_mid_cancel_goes_on_without_a_gap(served: Served, bodies: Bodies) -> None:
    await register(served, *LEAVES)
    await bodies.run(*LEAVES, slow=True)
    async with reading(served.client, RUN) as stream:
        await stream.until("snapshot")
        await served.control.cancel_run(RUN)
        while len(stream.acks) < 5:
            await stream.until("ack")
    before = stream.acks
    assert len(before) == 5

    async def heard() -> bool:
        return (await served.control.report(RUN)).dispositions == {"received": len(LEAVES)}

    await wait_until(heard, "all to have heard: who ends before it says so says only that")
    bodies.may_end.set()  # all of it happens while nobody is connected
    report = await served.control.report(RUN, wait=PATIENCE_S)
    assert report.settled
    async with reading(served.client, RUN, stream.seen[-1].id, until="settled") as stream:
        seen = await stream.rest()
    assert seen[0].name == "snapshot"
    whole = set(before) | set(stream.acks)
    assert whole == {(one, word) for one in LEAVES for word in ("received", "stopped")}
    assert all(sent.data["replayed"] for sent in seen if sent.name == "ack")
    assert [sent.data["event"] for sent in seen if sent.name == "audit"][-1] == "settled"
    assert stream.comments == [], "it ended when all was told, not after the silence that a heartbeat breaks"
    ids = [sent.id for sent in seen if sent.id is not None]
    async with reading(served.client, RUN, ids[-1], until="settled") as stream:
        again = [sent for sent in await stream.rest() if sent.name == "audit"]
    assert again == []


async def test_what_happens_between_the_reading_and_the_following_is_sent(served: Served, bodies: Bodies) -> None:
    """The acks are subscribed to before the records are read, so an ack of that moment waits behind the snapshot."""
    from tests.support.points import holding

    await register(served, *LEAVES)
    await bodies.run(*LEAVES)
    with holding("live.snapshot") as held:
        async with AsyncExitStack() as stack:
            opening = asyncio.create_task(stack.enter_async_context(reading(served.client, RUN, until="settled")))
            await held.arrived()
            await served.control.cancel_run(RUN)
            assert (await served.control.report(RUN, wait=PATIENCE_S)).settled
            held.release()
            stream = await opening
            await stream.rest()
    assert set(stream.acks) >= {(one, "stopped") for one in LEAVES}


async def test_two_streams_of_a_run_share_one_subscription_and_free_it(
    served: Served, bodies: Bodies, redis_url: str
) -> None:
    await register(served, *LEAVES)
    await bodies.run(*LEAVES)
    async with reading(served.client, RUN, until="settled") as one, reading(served.client, RUN) as other:
        await one.until("snapshot")
        await other.until("snapshot")
        assert await subscribers(served, redis_url) == 1
        await served.control.cancel_run(RUN)
        await one.rest()
        await other.until("operation", state="settled")
        assert Counter(one.acks) == Counter(other.acks)
    await wait_until(lambda: not served.control.live.followed, "the run to be followed by nobody")
    await until_unsubscribed(served, redis_url)
    assert served.context.streams.open == 0


async def test_a_client_that_leaves_frees_what_it_held(served: Served, redis_url: str) -> None:
    await register(served, "leaf")
    for _ in range(3):
        async with reading(served.client, RUN) as stream:
            await stream.until("snapshot")
        await wait_until(lambda: served.context.streams.open == 0, "the stream to be freed")
    assert not served.control.live.followed
    await until_unsubscribed(served, redis_url)


async def test_silence_is_filled_with_comments(served: Served) -> None:
    await register(served, "leaf")
    served.context.streams.heartbeat_s = 0.01
    async with reading(served.client, RUN, until="settled") as stream:
        await stream.until("snapshot")
        reading_on = asyncio.create_task(stream.rest())
        await wait_until(lambda: len(stream.comments) > 2, "comments in the silence")
        await served.control.cancel_run(RUN)
        await reading_on
    assert set(stream.comments) == {": still here"}


async def test_a_reader_that_is_too_slow_gets_a_fresh_snapshot(served: Served, redis_url: str) -> None:
    await register(served, "leaf")
    served.context.streams.waiting_limit = 10
    from tests.support.points import holding

    async with Redis.from_url(redis_url) as client, reading(served.client, RUN) as stream:
        await stream.until("snapshot")
        with holding("live.sending") as held:  # as a socket that takes no more
            await served.control.cancel_run(RUN)
            await held.arrived()
            message = '{"v":1,"type":"acks","at_us":"1","acks":[%s],"settled":[]}'
            pairs = ",".join(f'["x-{number}","received"]' for number in range(50))
            await client.publish(f"cb:{{{RUN}}}:ack-events", message % pairs)
            await wait_until(lambda: _due(served) == "slow", "the stream to have overflowed")
            held.release()
        fresh = await stream.until("snapshot")
    assert fresh.data["why"] == "slow"
    assert fresh.data["dispositions"] == {"never_started": 1}
    assert len([one for one in stream.acks if one[0].startswith("x-")]) <= 10


def _due(served: Served) -> str | None:
    (hub,) = served.control.live._hubs.values()
    (stream,) = hub.streams
    return stream._due


async def test_acks_that_the_server_could_not_hear_are_told_from_the_records(
    served: Served, bodies: Bodies, redis_url: str
) -> None:
    await register(served, *LEAVES)
    await bodies.run(*LEAVES)
    async with reading(served.client, RUN, until="settled") as stream:
        await stream.until("snapshot")
        (hub,) = served.control.live._hubs.values()
        hub._hear = lambda message: None  # type: ignore[method-assign]  # deaf to what was not bound before
        feed = hub._feed
        deaf, feed._hearers[RUN][:] = list(feed._hearers[RUN]), []
        await served.control.cancel_run(RUN)
        assert (await served.control.report(RUN, wait=PATIENCE_S)).settled
        feed._hearers[RUN][:] = deaf
        feed.missed(frozenset([f"cb:{{{RUN}}}:ack-events"]))
        await stream.rest()
    assert set(stream.acks) >= {(one, "stopped") for one in LEAVES}


async def test_there_is_a_limit_and_it_is_said(served: Served) -> None:
    await register(served, "leaf")
    served.context.streams.most = 1
    async with reading(served.client, RUN) as stream:
        await stream.until("snapshot")
        refused = await served.client.get(f"/api/v1/runs/{RUN}/events")
        assert (refused.status_code, refused.json()["error"]) == (503, "too_many_streams")
        assert refused.headers["retry-after"] == "1"
    await wait_until(lambda: served.context.streams.open == 0, "the place to be free")
    async with reading(served.client, RUN) as stream:
        await stream.until("snapshot")


async def test_what_cannot_be_followed_is_refused(served: Served) -> None:
    await register(served, "leaf")
    unknown = await served.client.get("/api/v1/runs/nope/events")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")
    bad = "²-1-1", "1-1", "x", "1-1-1-1", "-1-1-1"
    for one in bad:
        headers = [(b"Last-Event-ID", one.encode())]
        answer = await served.client.get(f"/api/v1/runs/{RUN}/events", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input"), one
    answer = await served.client.get(f"/api/v1/runs/{RUN}/events?until=never")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")
    assert (served.context.streams.open, served.control.live.followed) == (0, frozenset())


async def test_a_server_that_stops_ends_its_streams(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        await register(served, "leaf")
        async with reading(served.client, RUN) as stream:
            await stream.until("snapshot")
            served.context.patience.stop()
            assert await stream.rest() == stream.seen  # it ends, in good order
