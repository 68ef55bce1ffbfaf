"""A worker comes, beats, is replaced, outlives its Redis, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis.asyncio import Redis

import broker
from broker.store.keys import Keys
from tests.support.fleet import RUN, Body, open_fleet, settings
from tests.support.points import holding, recording
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

KEY = Keys().worker("w1")


def listeners() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "broker-listener"]


async def stubborn(body: Body) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        body.steps.append("swallowed")
    await body.go_on.wait()


# --- the heart ----------------------------------------------------------------------------------------


async def test_the_heartbeat_has_an_end_and_moves_it(redis_url: str) -> None:
    async with (
        Redis.from_url(redis_url, decode_responses=True) as client,
        open_fleet(redis_url, heartbeat_s=0.02, heartbeat_ttl_s=7.0, agent_node_id="gpu-7") as fleet,
    ):
        body = await fleet.body("x").begun()

        async def beat() -> dict[str, str]:
            assert 6000 < await client.pttl(KEY) <= 7000
            return {str(name): str(value) for name, value in (await client.hgetall(KEY)).items()}

        async def one_held() -> bool:
            return (await beat())["held"] == "1"

        await wait_until(one_held, "a beat that counts the execution")
        first = await beat()
        assert (first["incarnation"], first["agent_node_id"]) == ("1", "gpu-7")

        async def later() -> bool:
            return int((await beat())["seen_at_us"]) > int(first["seen_at_us"])

        await wait_until(later, "the next beat")
        await client.expire(f"{KEY}:inc", 60)

        async def moved() -> bool:
            return int(await client.ttl(f"{KEY}:inc")) > 60

        await wait_until(moved, "the end of the counter to be moved by a beat")
        body.go_on.set()
        await body.end()


async def test_a_heart_beats_on_after_an_error(redis_url: str) -> None:
    """Whatever a beat raises costs that beat: a heart that stops is a worker that is taken for dead."""
    async with open_fleet(redis_url, heartbeat_s=0.02) as fleet, Redis.from_url(redis_url) as client:
        body = await fleet.body("x").begun()
        intents, epoch = fleet.parts.backend.run(RUN).intents, fleet.parts.backend.run(RUN).run
        await client.hset(intents, "x", "no record at all")
        await client.hset(epoch, "epoch", "7")
        with recording() as passed:
            await wait_until(lambda: passed.count(("worker.beating", "w1")) > 2, "more beats")
        await client.hdel(intents, "x")
        report = await fleet.control.cancel_run(RUN, wait=10.0)
        assert report.dispositions == {"stopped": 1}
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        await client.expire(intents, 60)


async def test_a_worker_id_has_one_live_process(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        async with broker.Worker(redis_url, worker_id="w1"):
            with pytest.raises(broker.WorkerIdInUse, match="w1"):
                async with broker.Worker(redis_url, worker_id="w1"):
                    pytest.fail("two processes of one id")
            assert await client.hget(KEY, "incarnation") == "1"
        async with broker.Worker(redis_url, worker_id="w1"):
            assert await client.hget(KEY, "incarnation") == "2"


async def test_the_environment_can_name_the_worker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process has that name: what it starts does not inherit it."""
    monkeypatch.setenv("BROKER_WORKER_ID", "pod-7")
    async with broker.Worker(redis_url) as worker:
        assert worker.worker_id == "pod-7"
        with pytest.raises(broker.WorkerIdInUse):
            async with broker.Worker(redis_url):
                pass
        has_none = ["sh", "-c", 'test -z "$BROKER_WORKER_ID"']
        assert await worker.run_process(has_none, run_id=RUN, execution_id="x") == 0
    assert broker.Worker(redis_url, worker_id="mine").worker_id == "mine"


async def test_a_newer_incarnation_fences_the_older(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        async with open_fleet(redis_url, heartbeat_s=0.02) as fleet:
            with holding("worker.beating") as heart:
                body = await fleet.body("x").begun()
                await heart.arrived()  # it stands still, long enough to be taken for dead
                await client.delete(KEY)
                newer = broker.Worker.with_settings(settings(redis_url, "w1"))
                await newer.__aenter__()
            error = await body.end()
            assert isinstance(error, broker.Fenced)
            assert "incarnation 2" in str(error)
            assert await fleet.parts.status(RUN, "x") == "cancelled"
            with pytest.raises(broker.Fenced, match="starts nothing"):
                async with fleet.worker.execution(RUN, "y"):
                    pytest.fail("a fenced worker started something")
            assert await client.hget(KEY, "incarnation") == "2"
        assert await client.hget(KEY, "incarnation") == "2"  # the older one left, and took only its own record
        await newer.__aexit__(None, None, None)
        assert not await client.exists(KEY)


# --- leaving ------------------------------------------------------------------------------------------


async def test_leaving_leaves_nothing(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        async with broker.Worker(redis_url, worker_id="w1"):
            assert listeners() == ["broker-listener"]
            assert await client.exists(KEY)
        assert listeners() == []
        assert not await client.exists(KEY)


async def test_a_worker_that_was_cancelled_on_the_way_in_leaves_nothing(redis_url: str) -> None:
    worker = broker.Worker(redis_url, worker_id="w1")
    with holding("worker.beating") as connecting:
        entering = asyncio.create_task(worker.__aenter__())
        await connecting.arrived()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    await wait_until(lambda: not listeners(), "the listener's thread to end")
    async with Redis.from_url(redis_url) as client:
        assert not await client.exists(KEY)


@pytest.mark.parametrize("point", ["worker.acking", "worker.ending"])
async def test_leaving_says_first_what_waits_to_be_said(redis_url: str, point: str) -> None:
    async with open_fleet(redis_url) as fleet:
        body = await fleet.body("x", stubborn).begun()
        with holding(point) as waiting, recording() as passed:
            await fleet.control.cancel_run(RUN)
            await wait_until(lambda: "swallowed" in body.steps, "the cancel to be swallowed")
            if point == "worker.ending":
                body.go_on.set()
            await waiting.arrived()
            leaving = asyncio.create_task(fleet.worker.__aexit__(None, None, None))
            await wait_until(lambda: ("worker.leaving", "w1") in passed, "the goodbye to begin")
            waiting.release()
            await leaving
        ack = await fleet.parts.ack_of(RUN, "x")
        assert ack is not None
        assert ack.disposition == {"worker.acking": "received", "worker.ending": "ended_itself"}[point]
        body.go_on.set()
        assert await body.end() is None


# --- Redis comes and goes -----------------------------------------------------------------------------


async def test_redis_is_restarted_under_a_worker_and_remembers(redis_server: RedisServer) -> None:
    async with open_fleet(redis_server.url) as fleet:
        body = await fleet.body("x").begun()
        await asyncio.to_thread(redis_server.kill)
        await asyncio.to_thread(redis_server.restart)
        report = await fleet.control.cancel_run(RUN, wait=20.0)
        assert (report.state, report.dispositions) == ("settled", {"stopped": 1})
        assert isinstance(await body.end(), broker.ExecutionCancelled)


@pytest.mark.usefixtures("redis_server")  # for its skip where no program is installed
async def test_redis_is_restarted_under_a_worker_and_has_forgotten_everything() -> None:
    """The worker goes on without a restart, and says what it holds: that is cancelled like the rest."""
    with RedisServer() as server:
        async with open_fleet(server.url, heartbeat_s=0.05) as fleet, Redis.from_url(server.url) as client:
            forgotten = await fleet.body("forgotten").begun()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.restart)

            async def beats_again() -> bool:
                return bool(await client.exists(KEY))

            await wait_until(beats_again, "the worker to be known again")
            body = await fleet.body("x").begun()
            report = await fleet.control.cancel_run(RUN, wait=20.0)
            assert (report.state, report.dispositions) == ("settled", {"stopped": 2})
            for one in (body, forgotten):
                assert isinstance(await one.end(), broker.ExecutionCancelled)


async def test_a_listener_without_redis_is_degraded_on_both_sides_and_recovers(redis_server: RedisServer) -> None:
    """Refused connections for as long as it takes: nobody has to restart anything, and everyone can see it."""
    async with open_fleet(redis_server.url, timeout_s=20.0) as fleet:
        assert (fleet.worker.degraded, fleet.control.degraded) == (None, None)
        redis_server.kill()
        await wait_until(lambda: fleet.worker.degraded and fleet.control.degraded, "both to see it")
        await wait_until(lambda: "111" in str(fleet.worker.degraded), "a refused connection to be the reason")
        await asyncio.to_thread(redis_server.restart)
        await wait_until(lambda: (fleet.worker.degraded, fleet.control.degraded) == (None, None), "both to recover")
        body = await fleet.body("x").begun()
        report = await fleet.control.cancel_run(RUN, wait=20.0)
        assert report.dispositions == {"stopped": 1}
        assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_an_end_that_redis_refuses_is_said_until_it_is_taken(redis_server: RedisServer) -> None:
    """Out of memory is no reason to forget that a body has ended (trap T25)."""
    async with (
        open_fleet(redis_server.url, timeout_s=0.2) as fleet,
        Redis.from_url(redis_server.url) as client,
    ):
        body = await fleet.body("x", stubborn).begun()
        await fleet.control.cancel_run(RUN)
        await client.config_set("maxmemory", "1")
        body.go_on.set()
        assert await body.end() is None  # the block does not wait for ever
        assert (await fleet.control.report(RUN)).totals.still_running == 1
        await client.config_set("maxmemory", "0")
        assert (await fleet.settled_ack("x")).disposition == "ended_itself"
