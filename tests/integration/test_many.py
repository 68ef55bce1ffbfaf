"""A thousand at a time on one worker: nothing runs dry, and no cancel is lost while connections die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

import broker
from tests.support.fleet import RUN, Body, open_fleet
from tests.support.wait import wait_until

MANY = 1000
STORM_S = 2.0
BETWEEN_KILLS_S = 0.004


async def test_t44_a_thousand_concurrent_starts(redis_url: str) -> None:
    async def work(number: int) -> int:
        return number

    async with open_fleet(redis_url) as fleet:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(fleet.worker.run(work, number, run_id=RUN, execution_id=f"x-{number}"))
                for number in range(MANY)
            ]
        assert [task.result() for task in running] == list(range(MANY))
        executions = await fleet.parts.reads.executions(RUN)
        assert len(executions) == MANY
        assert {one.raw_status for one in executions.values()} == {"succeeded"}
        assert not any(one.claimed for one in executions.values())
        assert (await fleet.parts.reads.run_state(RUN)).active == 0


class Storm:
    """Kills every pub/sub connection of the server every few milliseconds, for two seconds or until it is `calmed`."""

    def __init__(self) -> None:
        self.rounds = 0
        self.killed = 0
        self.calmed = asyncio.Event()

    async def rage(self, url: str) -> None:
        ends_at = asyncio.get_running_loop().time() + STORM_S
        pause = asyncio.ensure_future(asyncio.Event().wait())
        async with Redis.from_url(url) as client:
            while not self.calmed.is_set() or asyncio.get_running_loop().time() < ends_at:
                self.rounds += 1
                self.killed += int(await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))  # type: ignore[no-untyped-call]
                await asyncio.wait({pause}, timeout=BETWEEN_KILLS_S)
        pause.cancel()


@asynccontextmanager
async def storm(url: str) -> AsyncIterator[Storm]:
    """Rages while the block runs, and two seconds at least."""
    weather = Storm()
    async with asyncio.TaskGroup() as group:
        group.create_task(weather.rage(url))
        yield weather
        weather.calmed.set()


async def test_t43_no_cancel_is_lost_while_the_connection_is_killed(redis_url: str) -> None:
    """Most are held before the storm, some come in the middle of it; then all are cancelled, with the poll off."""
    async with open_fleet(redis_url, timeout_s=20.0) as fleet:
        bodies = [fleet.body(f"x-{number}") for number in range(MANY - MANY // 5)]
        await asyncio.gather(*(body.begun() for body in bodies))
        async with storm(redis_url) as weather:
            await wait_until(lambda: weather.killed >= 2, "the storm")
            latecomers = [fleet.body(f"x-{number}") for number in range(len(bodies), MANY)]
            until = weather.rounds + 20
            await wait_until(lambda: weather.rounds >= until, "the latecomers to be under way")
            first = await fleet.control.cancel_run(RUN, reason="storm")
        assert weather.killed >= 4
        ends = await asyncio.gather(*(body.end() for body in bodies + latecomers))
        assert {type(error) for error in ends} == {broker.ExecutionCancelled}

        async def settled() -> broker.CancelReport | None:
            report = await fleet.control.report(RUN)
            return report if report.settled else None

        report = await wait_until(settled, "the operation to be settled")
        assert report is not None
        assert report.cancel_id == first.cancel_id
        assert report.totals.still_running == 0
        assert report.dispositions["stopped"] >= len(bodies)
        assert sum(report.dispositions.values()) == report.totals.executions
        body: Body = Body(fleet.worker, "after")  # the listener is as good as new: it hears at once that it is too late
        assert isinstance(await body.end(), broker.ExecutionCancelled)
