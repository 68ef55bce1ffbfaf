"""What does not stop is named, with its cause, until the last one has ended."""

from __future__ import annotations

import asyncio

import broker
from tests.support.wait import wait_until


async def test_a_body_that_swallows_the_cancel_is_a_straggler_with_a_name(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url) as worker:
        started, swallowed, enough = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def stubborn() -> str:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.set()
            await enough.wait()
            return "done all the same"

        running = asyncio.create_task(worker.run(stubborn, run_id="run-1", execution_id="stubborn"))
        await started.wait()
        await b.cancel_run("run-1")
        await swallowed.wait()

        async def heard() -> bool:
            return any(one.cause == "stopping" for one in (await b.report("run-1")).still_running)

        await wait_until(heard, "the worker said that it is stopping")
        report = await b.report("run-1")
        assert not report.settled
        assert [(one.execution_id, one.worker_id) for one in report.still_running] == [("stubborn", worker.worker_id)]

        enough.set()
        assert await running == "done all the same"
        report = await b.report("run-1")
        assert report.settled
        assert report.dispositions == {"ended_itself": 1}


async def test_an_execution_that_no_worker_ever_claimed_is_named_too(redis_url: str) -> None:
    async with broker.connect(redis_url) as b:
        await b.register("run-1", [broker.Execution("ghost", status="running")])
        report = await b.cancel_run("run-1")
        assert [(one.execution_id, one.cause) for one in report.still_running] == [("ghost", "no_worker")]
        assert not report.settled
