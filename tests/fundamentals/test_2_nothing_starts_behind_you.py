"""A cancelled run stays cancelled: what is spawned or retried afterwards never runs its first line."""

from __future__ import annotations

import pytest

import broker


async def test_a_child_spawned_after_the_cancel_is_refused_before_its_first_line(redis_url: str) -> None:
    async with broker.connect(redis_url) as b, broker.Worker(redis_url) as worker:
        await b.register("run-1", [broker.Execution("root")])
        await b.cancel_run("run-1", reason="changed my mind")

        with pytest.raises(broker.ExecutionCancelled, match="changed my mind"):
            async with worker.execution("run-1", "late-child", parent_execution_id="root"):
                pytest.fail("the body ran")


async def test_registering_under_a_closed_gate_says_so(redis_url: str) -> None:
    async with broker.connect(redis_url) as b:
        await b.register("run-1", [broker.Execution("root")])
        await b.cancel_run("run-1")
        answer = await b.register("run-1", [broker.Execution("late-child", parent_execution_id="root")])
        assert answer.registered == 0
        assert answer.refused == (("late-child", "run_cancelled"),)
