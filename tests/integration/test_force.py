"""The forced step: shields and refusals do not hold any more, and what swallows its cancel is asked until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import broker
from broker.worker import execution as execution_module
from tests.support.family import MAIN, Family
from tests.support.fleet import RUN, Body, Fleet, open_fleet
from tests.support.points import PATIENCE_S
from tests.support.threads import ThreadBody
from tests.support.wait import wait_until

LONG_S = 600.0


@pytest.fixture
async def fleet(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(execution_module, "FORCE_AGAIN_S", 0.02)
    async with open_fleet(redis_url) as fleet:
        yield fleet


async def for_ever() -> None:
    await asyncio.Event().wait()


async def force(fleet: Fleet, execution_id: str = "x") -> None:
    operation = await fleet.parts.only_operation(RUN)
    assert await fleet.parts.operations.redeliver(RUN, operation, [execution_id], force=True) == 1


def stubborn(times: int, at_last: str) -> Callable[[Body], Awaitable[str]]:
    async def work(body: Body) -> str:
        for _ in range(times):
            try:
                await for_ever()
            except asyncio.CancelledError:
                body.steps.append("swallowed")
        if at_last == "goes":
            await for_ever()
        return "its own result"

    return work


# --- coroutines -------------------------------------------------------------------------------------------


async def test_a_body_that_swallows_is_asked_until_it_goes(fleet: Fleet) -> None:
    body = await fleet.body("x", stubborn(5, "goes")).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    assert (body.steps, body.execution.forced) == (["first line", "swallowed"], False)
    await force(fleet)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", *5 * ["swallowed"]]
    assert body.execution.forced
    assert body.task.cancelling() == 0
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_a_body_that_swallows_to_its_end_was_not_stopped(fleet: Fleet) -> None:
    body = await fleet.body("x", stubborn(3, "returns")).begun()
    await fleet.control.cancel_run(RUN)
    await force(fleet)
    assert await body.task == "its own result"
    assert body.task.cancelling() == 0
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("ended_itself", "succeeded")


async def test_nothing_is_asked_behind_the_block(fleet: Fleet) -> None:
    async def work() -> int:
        with pytest.raises(broker.ExecutionCancelled):  # noqa: PT012 - the block is what raises
            async with fleet.worker.execution(RUN, "x"):
                inside.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await for_ever()
                await for_ever()
        never = asyncio.get_running_loop().create_future()
        await asyncio.wait({never}, timeout=5 * execution_module.FORCE_AGAIN_S)  # longer than until the next time
        return task.cancelling()

    inside = asyncio.Event()
    task = asyncio.create_task(work())
    await inside.wait()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    await force(fleet)
    assert await task == 0


async def test_a_foreign_cancel_beside_a_forced_one_passes_through(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        while len(body.steps) < 4:
            try:
                await for_ever()
            except asyncio.CancelledError:
                body.steps.append("swallowed")
        body.task.cancel()
        await for_ever()

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await force(fleet)
    assert isinstance(await body.end(), asyncio.CancelledError)
    assert body.task.cancelling() == 1


async def test_the_sweep_forces_when_its_time_has_come(fleet: Fleet) -> None:
    body = await fleet.body("x", stubborn(3, "goes")).begun()
    report = await fleet.control.cancel_run(RUN, force_after=0.0)
    await fleet.parts.sweep_now(RUN, report.cancel_id)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_a_timeout_inside_a_forced_body_keeps_its_count(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        for _ in range(3):
            try:
                async with asyncio.timeout(LONG_S):
                    await for_ever()
            except asyncio.CancelledError:
                body.steps.append("swallowed")
        await for_ever()

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await force(fleet)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.task.cancelling() == 0


# --- what does not hold any more --------------------------------------------------------------------------


async def test_force_breaks_a_shield(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        with body.execution.shield(LONG_S):
            try:
                await for_ever()
            finally:
                body.steps.append(f"requested: {body.execution.cancel_requested}")

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    await force(fleet)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", "requested: True"]
    assert body.task.cancelling() == 0
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_force_overrides_a_refusal(fleet: Fleet) -> None:
    body = await fleet.body("x").begun()
    body.execution.refuse("no")
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "refused")
    await force(fleet)
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_what_was_deferred_and_is_forced_is_stopping(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        with body.execution.shield(LONG_S):
            assert body.go_on.wait(PATIENCE_S)

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    await force(fleet)
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert await body.end() is None


# --- threads ----------------------------------------------------------------------------------------------


async def test_a_thread_is_asked_and_nothing_worse(fleet: Fleet) -> None:
    """A shield does not keep the flag from it any more; nothing is thrown into it, and it is never `killed`."""

    def work(body: ThreadBody) -> str:
        with body.execution.shield(LONG_S):
            assert body.execution.wait(PATIENCE_S)
            body.steps.append(f"forced: {body.execution.forced}")
            assert body.go_on.wait(PATIENCE_S)
        return "its own result"

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "deferred")
    await force(fleet)
    await wait_until(lambda: body.steps == ["forced: True"], "the thread to hear")
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert await body.task == "its own result"
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("stopped", "cancelled")


async def test_a_thread_that_never_looks_ended_by_itself_also_by_force(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        assert body.go_on.wait(PATIENCE_S)

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await fleet.control.cancel_run(RUN)
    await force(fleet)
    await wait_until(lambda: body.execution.forced, "the force to be heard")
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert await body.end() is None
    assert (await fleet.settled_ack("x")).disposition == "ended_itself"


# --- processes --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")
async def test_a_process_is_killed_at_once(fleet: Fleet, tmp_path: Path) -> None:
    family = Family(tmp_path)
    command = ["sh", "-c", f"trap '' TERM; {MAIN}"]
    running = fleet.worker.run_process(command, run_id=RUN, execution_id="x", grace=LONG_S, env=family.env)
    task = asyncio.create_task(running)
    await family.has("main")
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    await force(fleet)
    with pytest.raises(broker.ExecutionCancelled):
        await asyncio.wait_for(task, PATIENCE_S)
    assert family.left() == {}
    assert task.cancelling() == 0
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("killed", "cancelled")
    assert ack.detail == "1 ended by SIGKILL"
