"""A run, a subtree, or one execution: and the narrow cancel says what it leaves running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import broker

TREE = {"root": None, "planner": "root", "leaf-1": "planner", "other": "root"}


@asynccontextmanager
async def running_tree(worker: broker.Worker) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """The tree, each execution inside its body; what is left is cancelled by the test, not by the broker."""
    inside = asyncio.Barrier(len(TREE) + 1)

    async def body(execution_id: str, parent: str | None) -> None:
        async with worker.execution("run-1", execution_id, parent_execution_id=parent):
            await inside.wait()
            await asyncio.Event().wait()

    tasks = {one: asyncio.create_task(body(one, parent)) for one, parent in TREE.items()}
    await inside.wait()
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_a_subtree_stops_and_the_rest_goes_on(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url) as worker, running_tree(worker) as tasks:
        report = await b.cancel_subtree("planner", wait=10)
        assert report.settled
        assert [node.execution_id for node in report.nodes] == ["leaf-1", "planner"]
        assert {one for one, task in tasks.items() if not task.done()} >= {"root", "other"}
        assert report.remaining_active_in_run == 2


async def test_one_execution_stops_and_the_answer_says_what_it_leaves(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url) as worker, running_tree(worker) as tasks:
        report = await b.cancel_execution("planner", wait=10)
        assert [node.execution_id for node in report.nodes] == ["planner"]
        assert report.remaining_active_in_run == 3
        assert not tasks["leaf-1"].done()


async def test_a_repeat_is_the_same_cancel(redis_url: str) -> None:
    async with broker.connect(redis_url) as b:
        await b.register("run-1", [broker.Execution("root")])
        first = await b.cancel_run("run-1", reason="first")
        again = await b.cancel_run("run-1", reason="second")
        assert (again.cancel_id, again.reason, again.deadline_at) == (first.cancel_id, "first", first.deadline_at)


async def test_what_is_not_there_cannot_be_cancelled(redis_url: str) -> None:
    async with broker.connect(redis_url) as b:
        with pytest.raises(broker.NotFound, match="run run-9 not found"):
            await b.cancel_run("run-9")
        with pytest.raises(broker.NotFound, match="execution leaf-9 not found"):
            await b.cancel_execution("leaf-9")
