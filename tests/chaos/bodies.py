"""The bodies: each says in its worker's file that it began, that it saw its cancel, and how it ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import broker
from tests.chaos.plan import ExecutionPlan, Kind
from tests.chaos.truth import TruthFile
from tests.support.wait import spread

MARK = "CHAOS_TRUTH"
"""In the environment of commands: the folder of the run they belong to. Whoever has it is a body, or left over."""

BEFORE_THE_END_S = 3.0
Spawn = Callable[[ExecutionPlan], Awaitable[None]]


@contextmanager
def witnessed(truth: TruthFile, execution: broker.HeldExecution) -> Iterator[Callable[[], None]]:
    """Inside the block around the body, so that `ended` is written before the broker can know of it."""
    who = (execution.execution_id, execution._held.start)
    truth.write("began", *who)
    how = "returned"

    def saw() -> None:
        truth.write("saw", *who)

    try:
        yield saw
    except asyncio.CancelledError:
        how = "cancelled"
        raise
    except BaseException as error:
        how = f"raised {type(error).__name__}"
        raise
    finally:
        truth.write("ended", *who, how)


async def live(worker: broker.Worker, truth: TruthFile, plan: ExecutionPlan, spawn: Spawn) -> None:
    """Runs the body of one execution. Raises what the block raises."""
    if plan.kind is Kind.PROCESS:
        await _in_process(worker, truth.path.parent, plan)
    elif plan.kind in (Kind.THREAD, Kind.DEAF_THREAD):
        await worker.run(
            partial(_in_thread, truth, plan), run_id=plan.run_id, execution_id=plan.execution_id,
            parent_execution_id=plan.parent,
        )  # fmt: skip
    else:
        async with worker.execution(plan.run_id, plan.execution_id, parent_execution_id=plan.parent) as execution:
            with witnessed(truth, execution) as saw:
                execution.on_cancel(lambda _: saw())
                await _COROUTINES[plan.kind](execution, plan, spawn)


# --- coroutines ---------------------------------------------------------------------------------------


async def _sleep(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    await spread(plan.length_s)


async def _for_ever(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    await asyncio.Event().wait()


async def _clean_up(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    try:
        await spread(plan.length_s)
    finally:
        await spread(plan.variant * 0.4)


async def _swallow(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    try:
        await spread(plan.length_s)
    except asyncio.CancelledError:
        await spread(plan.variant)


async def _shield(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    with execution.shield(at_most=0.1 + plan.variant):
        await spread(plan.length_s)
    await spread(plan.length_s)


async def _refuse(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    execution.refuse("chaos")
    await spread(plan.length_s)


async def _fail(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    await spread(plan.length_s / 3)
    raise RuntimeError("chaos")


async def _spawn(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    """Children that nobody has registered, started while the tree may be being cancelled."""
    async with asyncio.TaskGroup() as children:
        for place in range(1 + int(plan.variant * 3)):
            await spread(plan.length_s / 4)
            kind = Kind.FOREVER if plan.variant > 0.5 and execution.cancel_requested else Kind.SLEEP
            child = ExecutionPlan(
                plan.run_id, f"{plan.execution_id}.s{place}", plan.execution_id, kind, plan.worker,
                0.0, plan.length_s, plan.variant, registered=False, again=None,
            )  # fmt: skip
            children.create_task(spawn(child))  # type: ignore[arg-type]  # an async function


async def _stubborn(execution: broker.HeldExecution, plan: ExecutionPlan, spawn: Spawn) -> None:
    """Swallows every cancel until it is forced, or has had enough."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + plan.length_s + BEFORE_THE_END_S
    while loop.time() < ends_at:
        try:
            await spread(ends_at - loop.time())
        except asyncio.CancelledError:
            if execution.forced:
                raise


_COROUTINES = {
    Kind.QUICK: _sleep, Kind.SLEEP: _sleep, Kind.FOREVER: _for_ever, Kind.CLEAN_UP: _clean_up,
    Kind.SWALLOW: _swallow, Kind.SHIELD: _shield, Kind.REFUSE: _refuse, Kind.FAIL: _fail, Kind.SPAWN: _spawn,
    Kind.STUBBORN: _stubborn,
}  # fmt: skip


# --- threads and processes ------------------------------------------------------------------------------


def _in_thread(truth: TruthFile, plan: ExecutionPlan) -> None:
    execution = broker.current_execution()
    assert execution is not None
    with witnessed(truth, execution) as saw:
        if plan.kind is Kind.DEAF_THREAD:
            execution._requested.wait(plan.length_s)  # it hears, and never looks
            return
        if execution.wait(plan.length_s * 2):
            saw()
            execution.raise_if_cancelled()


_COMMANDS = (
    "sleep $LENGTH & wait",
    "trap 'sleep 0.1; exit 3' TERM; sleep $LENGTH & wait",
    "trap '' TERM; sleep $LENGTH & setsid sleep $LENGTH & wait",
)
"""One that ends at SIGTERM, one that cleans up, one that ignores it and has a child in a session of its own."""


async def _in_process(worker: broker.Worker, folder: Path, plan: ExecutionPlan) -> None:
    """The supervisor's watch sees these processes by their environment; nothing is written by them."""
    script = _COMMANDS[int(plan.variant * len(_COMMANDS))]
    env = {"PATH": os.environ["PATH"], MARK: str(folder), "LENGTH": f"{plan.length_s * 2:.2f}"}
    await worker.run_process(
        ["sh", "-c", script], run_id=plan.run_id, execution_id=plan.execution_id,
        parent_execution_id=plan.parent, grace=0.3, env=env,
    )  # fmt: skip
