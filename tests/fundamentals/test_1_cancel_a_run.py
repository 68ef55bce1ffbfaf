"""You press cancel, and know when it has stopped: every execution of the run, not only the one you see."""

from __future__ import annotations

import asyncio

import broker


async def test_every_execution_of_the_run_stops_and_says_so(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url, agent_node_id="gpu-7") as worker:
        inside = asyncio.Barrier(4)

        async def body(execution_id: str, parent: str | None) -> None:
            async with worker.execution("run-1", execution_id, parent_execution_id=parent):
                await inside.wait()
                await asyncio.Event().wait()  # work that would never end by itself

        tree = {"root": None, "planner": "root", "leaf-1": "planner"}
        bodies = [asyncio.create_task(body(one, parent)) for one, parent in tree.items()]
        await inside.wait()

        report = await b.cancel_run("run-1", reason="user clicked cancel", requested_by="ops@example", wait=10)

        assert report.settled
        assert report.still_running == ()
        assert report.dispositions == {"stopped": 3}
        assert [node.execution_id for node in report.nodes] == ["leaf-1", "planner", "root"]  # bottom-up
        ends = await asyncio.gather(*bodies, return_exceptions=True)
        assert all(isinstance(end, broker.ExecutionCancelled) for end in ends)


async def test_the_body_learns_who_cancelled_it_and_why(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url) as worker:
        started = asyncio.Event()

        async def work() -> None:
            started.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(worker.run(work, run_id="run-1", execution_id="leaf-1"))
        await started.wait()
        await b.cancel_run("run-1", reason="budget is spent", requested_by="ops@example", wait=10)

        (end,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(end, broker.ExecutionCancelled)
        assert (end.cause.source, end.cause.reason) == ("cancel_tree", "budget is spent")
        assert end.cause.requested_by == "ops@example"
