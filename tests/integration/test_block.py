"""The block around a body behaves like `asyncio.timeout()`: it swallows its own cancellation and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import broker
from broker.protocol.records import as_stamp
from broker.worker.listener import WorkerSettings
from tests.support.fleet import RUN, Body, Fleet, open_fleet
from tests.support.points import holding, recording
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

Work = Callable[[Body], Awaitable[object]]


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with open_fleet(redis_url) as fleet:
        yield fleet


async def for_ever(body: Body | None = None) -> None:
    await asyncio.Event().wait()


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# --- ours and other people's --------------------------------------------------------------------------


async def test_t49_its_own_cancel_becomes_an_error_and_leaves_no_trace_in_the_task(fleet: Fleet) -> None:
    async def work() -> int:
        with pytest.raises(broker.ExecutionCancelled) as raised:  # noqa: PT012 - the block is what raises
            async with fleet.worker.execution(RUN, "x"):
                inside.set()
                await for_ever()
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)
        return cancelling()

    inside = asyncio.Event()
    task = asyncio.create_task(work())
    await inside.wait()
    report = await fleet.control.cancel_execution("x", wait=10.0)
    assert await task == 0
    assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


async def test_a_foreign_cancel_passes_through(fleet: Fleet) -> None:
    body = await fleet.body("x").begun()
    body.task.cancel("by a stranger")
    with pytest.raises(asyncio.CancelledError, match="by a stranger"):
        await body.task
    assert body.task.cancelled()
    assert body.task.cancelling() == 1
    assert await fleet.parts.status(RUN, "x") == "cancelled"
    assert await fleet.parts.intent(RUN, "x") is None


async def test_a_foreign_cancel_beside_ours_passes_through(fleet: Fleet) -> None:
    """Both come before the body ends: the stranger's must not be swallowed with ours."""

    async def work(body: Body) -> None:
        try:
            await for_ever()
        finally:
            body.task.cancel()  # interrupts the cleanup, as a second Ctrl-C would
            await for_ever()

    body = await fleet.body("x", work).begun()
    report = await fleet.control.cancel_run(RUN, wait=10.0)
    assert isinstance(await body.end(), asyncio.CancelledError)
    assert body.task.cancelling() == 1
    assert report.dispositions == {"stopped": 1}


async def test_a_foreign_cancel_while_the_end_is_written_passes_through(fleet: Fleet) -> None:
    body = await fleet.body("x").begun()
    with holding("worker.ending") as ending:
        body.go_on.set()
        await ending.arrived()
        body.task.cancel()
        assert isinstance(await body.end(), asyncio.CancelledError)
        assert await fleet.parts.status(RUN, "x") == "running"

    async def ended() -> bool:
        return await fleet.parts.status(RUN, "x") == "succeeded"

    await wait_until(ended, "the end to be written all the same")


async def test_a_foreign_cancel_on_the_way_in_leaves_no_claim(fleet: Fleet) -> None:
    for point in ("worker.confirmed", "worker.started"):
        execution_id = point.replace(".", "-")
        with holding(point) as entering:
            body = fleet.body(execution_id)
            await entering.arrived()
            body.task.cancel()
            assert isinstance(await body.end(), asyncio.CancelledError)

        async def given_back(execution_id: str = execution_id) -> bool:
            record = await fleet.parts.reads.execution(RUN, execution_id)
            return record is not None and record.start == "1" and not record.claimed

        await wait_until(given_back, "the claim to be given back")
        assert body.steps == []


async def test_a_foreign_cancel_on_the_way_in_takes_nothing_from_the_holder(fleet: Fleet, redis_url: str) -> None:
    holder = await fleet.body("x").begun()
    async with broker.Worker(redis_url) as other:
        with holding("worker.started") as refused:
            body = Body(other, "x")
            await refused.arrived()
            body.task.cancel()
            assert isinstance(await body.end(), asyncio.CancelledError)
    log = await fleet.parts.backend.commands.command("XLEN", fleet.parts.backend.run(RUN).log)
    assert int(log) == 0  # no late end of a claim that it never had
    holder.go_on.set()
    assert await holder.end() is None


# --- among other scopes -------------------------------------------------------------------------------


async def test_a_timeout_around_it(fleet: Fleet) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012 - the block is what raises
        async with asyncio.timeout(None) as timeout, fleet.worker.execution(RUN, "x"):
            timeout.reschedule(asyncio.get_running_loop().time())
            await for_ever()
    assert cancelling() == 0
    assert await fleet.parts.status(RUN, "x") == "cancelled"


@pytest.mark.parametrize("cancel", [False, True], ids=["expires", "cancelled"])
async def test_a_timeout_inside_it(fleet: Fleet, cancel: bool) -> None:
    async def work(body: Body) -> str:
        try:
            async with asyncio.timeout(60.0 if cancel else 0.001):
                await for_ever()
        except TimeoutError:
            return f"timed out, cancelling {cancelling()}"
        raise AssertionError

    body = await fleet.body("x", work).begun()
    if cancel:
        await fleet.control.cancel_run(RUN)
        assert isinstance(await body.end(), broker.ExecutionCancelled)
    else:
        assert await body.task == "timed out, cancelling 0"


async def test_a_task_group_inside_it_ends_before_the_block_does(fleet: Fleet) -> None:
    async def member(body: Body) -> None:
        try:
            await for_ever()
        finally:
            await body.go_on.wait()
            body.steps.append("member ended")

    async def work(body: Body) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(member(body))

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert body.steps == ["first line", "member ended"]
    assert (await fleet.settled_ack("x")).disposition == "stopped"


async def test_a_task_group_around_it_cancels_the_others(fleet: Fleet) -> None:
    async def run(execution_id: str) -> None:
        async with fleet.worker.execution(RUN, execution_id):
            inside[execution_id].set()
            await for_ever()

    inside = {"x": asyncio.Event(), "y": asyncio.Event()}

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            for execution_id in inside:
                group.create_task(run(execution_id))

    task = asyncio.create_task(both())
    await asyncio.gather(*(event.wait() for event in inside.values()))
    await fleet.control.cancel_execution("x")
    with pytest.raises(ExceptionGroup) as raised:
        await task
    (error,) = raised.value.exceptions
    assert isinstance(error, broker.ExecutionCancelled)
    assert error.execution_id == "x"
    assert await fleet.parts.status(RUN, "y") == "cancelled"
    assert await fleet.parts.intent(RUN, "y") is None  # by the group, not by us


class Nested:
    """Two blocks in one task; `seen` says what came out of each, and what was left in the task."""

    def __init__(self, worker: broker.Worker) -> None:
        self.inside = asyncio.Event()
        self.cleanup = asyncio.Event()
        self.cleaning = asyncio.Event()
        self.seen: list[tuple[str, str, int]] = []
        self.task = asyncio.create_task(self._run(worker))

    async def _run(self, worker: broker.Worker) -> None:
        try:
            async with worker.execution(RUN, "outer"):
                try:
                    async with worker.execution(RUN, "inner", parent_execution_id="outer"):
                        await self._work()
                except BaseException as error:
                    self.seen.append(("inner", type(error).__name__, cancelling()))
                    raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            self.seen.append(("outer", type(error).__name__, cancelling()))

    async def _work(self) -> None:
        self.inside.set()
        try:
            await for_ever()
        finally:
            self.cleaning.set()
            await self.cleanup.wait()


@pytest.mark.parametrize(
    ("targets", "seen"),
    [
        (["inner"], [("inner", "ExecutionCancelled", 0), ("outer", "ExecutionCancelled", 0)]),
        (["outer"], [("inner", "CancelledError", 1), ("outer", "ExecutionCancelled", 0)]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value[0], str) else "",
)
async def test_one_of_two_nested_blocks(fleet: Fleet, targets: list[str], seen: list[Any]) -> None:
    nested = Nested(fleet.worker)
    await nested.inside.wait()
    nested.cleanup.set()
    await fleet.control.cancel_execution(targets[0], wait=10.0)
    await nested.task
    assert nested.seen == seen
    expected = {"inner": ("cancelled", "failed"), "outer": ("cancelled", "cancelled")}[targets[0]]
    assert (await fleet.parts.status(RUN, "inner"), await fleet.parts.status(RUN, "outer")) == expected


@pytest.mark.parametrize("first", ["inner", "outer"])
async def test_both_of_two_nested_blocks(fleet: Fleet, first: str) -> None:
    """The second cancel comes during the cleanup of the first. Like two timeouts: the outer one has the last word."""
    nested = Nested(fleet.worker)
    await nested.inside.wait()
    await fleet.control.cancel_execution(first)
    await nested.cleaning.wait()
    second = "outer" if first == "inner" else "inner"
    await fleet.control.cancel_execution(second, wait=10.0)
    await nested.task
    assert nested.seen == [("inner", "CancelledError", 1), ("outer", "ExecutionCancelled", 0)]
    for execution_id in ("inner", "outer"):
        assert (await fleet.settled_ack(execution_id)).disposition == "stopped"


# --- bodies that do as they like ----------------------------------------------------------------------


async def test_t27_a_body_that_swallows_the_cancel_is_named_until_it_ends(fleet: Fleet) -> None:
    async def stubborn(body: Body) -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            body.steps.append("swallowed")
        await body.go_on.wait()
        return "its own result"

    body = await fleet.body("x", stubborn).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    assert body.steps == ["first line", "swallowed"]
    (straggler,) = (await fleet.control.report(RUN)).still_running
    assert (straggler.execution_id, straggler.worker_id, straggler.disposition) == ("x", "w1", "received")
    body.go_on.set()
    assert await body.task == "its own result"
    assert body.task.cancelling() == 0
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("ended_itself", "succeeded")
    report = await fleet.control.report(RUN)
    assert (report.state, report.dispositions, report.still_running) == ("settled", {"ended_itself": 1}, ())


async def test_a_body_that_swallows_and_fails_later_ended_by_itself(fleet: Fleet) -> None:
    async def stubborn(body: Body) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await for_ever()
        raise ValueError("its own failure")

    body = await fleet.body("x", stubborn).begun()
    await fleet.control.cancel_run(RUN)
    assert isinstance(await body.end(), ValueError)
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome, ack.detail) == ("ended_itself", "failed", "ValueError: its own failure")


async def test_t28_a_body_that_blocks_its_loop_is_stopping_not_dead(redis_url: str) -> None:
    """Its loop is one of its own here, because the test has to look at it meanwhile."""
    inside, go_on, outcome = threading.Event(), threading.Event(), []

    async def live() -> None:
        async with open_fleet(redis_url, heartbeat_s=0.05, heartbeat_ttl_s=0.5) as fleet:
            try:
                async with fleet.worker.execution(RUN, "x"):
                    inside.set()
                    go_on.wait()
                    await for_ever()
            except broker.ExecutionCancelled as error:
                outcome.append(error.execution_id)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        async with broker.connect(redis_url, sweep=False) as control:
            await wait_until(inside.is_set, "the body to block")
            await control.cancel_run(RUN)

            async def straggler() -> broker.ExecutionReport:
                (one,) = (await control.report(RUN)).still_running
                return one

            async def is_stopping() -> bool:
                return (await straggler()).cause == "stopping"

            await wait_until(is_stopping, "the blocked body to be stopping")
            seen = (await straggler()).worker_last_seen
            assert seen is not None

            async def beats_on() -> bool:
                return (await straggler()).age > 0.6

            await wait_until(beats_on, "longer than its heartbeat lives")
            seen = (await straggler()).worker_last_seen
            assert seen is not None
            assert seen < 0.5
            assert (await straggler()).cause == "stopping"
            go_on.set()
            await wait_until(lambda: outcome == ["x"], "the body to be cancelled at its next await")
            report = await control.report(RUN)
            assert (report.state, report.dispositions) == ("settled", {"stopped": 1})
    finally:
        go_on.set()
        await asyncio.to_thread(thread.join)


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "in-a-task-group"])
async def test_a_cleanup_that_raises_has_stopped_all_the_same(fleet: Fleet, grouped: bool) -> None:
    async def fails() -> None:
        try:
            await for_ever()
        finally:
            raise ValueError("cleanup")

    async def work(body: Body) -> None:
        if not grouped:
            await fails()
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    body = await fleet.body("x", work).begun()
    await fleet.control.cancel_run(RUN)
    assert isinstance(await body.end(), ExceptionGroup if grouped else ValueError)
    assert body.task.cancelling() == 0
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("stopped", "failed")


async def test_an_error_of_the_body_passes_and_is_its_outcome(fleet: Fleet) -> None:
    async def work(body: Body) -> None:
        raise KeyError("x")

    assert isinstance(await fleet.body("x", work).end(), KeyError)
    assert await fleet.parts.status(RUN, "x") == "failed"


# --- worker.run ---------------------------------------------------------------------------------------


async def test_run_answers_what_the_function_does(fleet: Fleet) -> None:
    async def add(a: int, b: int, *, times: int = 1) -> int:
        return (a + b) * times

    async def fail() -> None:
        raise KeyError("no")

    assert await fleet.worker.run(add, 1, 2, times=3, run_id=RUN, execution_id="sum") == 9
    assert await fleet.parts.status(RUN, "sum") == "succeeded"
    with pytest.raises(KeyError):
        await fleet.worker.run(fail, run_id=RUN, execution_id="fail")
    assert await fleet.parts.status(RUN, "fail") == "failed"


async def test_run_raises_the_cancel(fleet: Fleet) -> None:
    with recording() as passed:
        running = asyncio.create_task(fleet.worker.run(for_ever, run_id=RUN, execution_id="x"))
        await wait_until(lambda: ("worker.started", "x") in passed, "the start")
    await fleet.control.cancel_run(RUN, reason="enough")
    with pytest.raises(broker.ExecutionCancelled, match="enough"):
        await running


# --- looking for a cancel -----------------------------------------------------------------------------


async def test_a_body_can_look_and_be_called(fleet: Fleet) -> None:
    """`on_cancel` comes on the body's loop, once, whether it was given before or after."""
    called: list[tuple[str, broker.CancelCause, int]] = []
    seen: list[tuple[bool, broker.CancelCause | None]] = []

    def note(name: str) -> Callable[[broker.CancelCause], None]:
        return lambda cause: called.append((name, cause, threading.get_ident()))

    async def work(body: Body) -> None:
        execution = body.execution
        execution.on_cancel(note("before"))
        execution.raise_if_cancelled()
        seen.append((execution.cancel_requested, execution.cause))
        try:
            await for_ever()
        finally:
            seen.append((execution.cancel_requested, execution.cause))
            execution.on_cancel(note("after"))
            with pytest.raises(broker.ExecutionCancelled):
                execution.raise_if_cancelled()

    body = await fleet.body("x", work).begun()
    report = await fleet.control.cancel_run(RUN, reason="r" * 500, requested_by="who")
    assert isinstance(await body.end(), broker.ExecutionCancelled)
    cause = broker.CancelCause(report.cancel_id, "cancel_tree", "r" * 500, "who", as_stamp(report.requested_at) or 0)
    await wait_until(lambda: len(called) == 2, "both to be called")
    assert seen == [(False, None), (True, cause)]
    assert sorted(called) == [("after", cause, threading.get_ident()), ("before", cause, threading.get_ident())]


@pytest.mark.parametrize("scope", ["cancel_api", "cancel_subtree", "cancel_tree"])
async def test_the_cause_says_what_was_asked(fleet: Fleet, scope: str) -> None:
    body = await fleet.body("x").begun()
    if scope == "cancel_api":
        await fleet.control.cancel_execution("x")
    elif scope == "cancel_subtree":
        await fleet.control.cancel_subtree("x")
    else:
        await fleet.control.cancel_run(RUN)
    error = await body.end()
    assert isinstance(error, broker.ExecutionCancelled)
    assert error.cause.source == scope
    assert error.cause.reason is None


async def test_a_body_that_never_awaits_has_stopped_because_it_looked(redis_url: str) -> None:
    """Nothing is delivered to a loop that is never free: the flag alone must do, and it is no failure."""
    inside, ended = threading.Event(), []

    async def live() -> None:
        async with broker.Worker(redis_url) as worker:
            try:
                async with worker.execution(RUN, "x") as execution:
                    inside.set()
                    for _ in range(10**9):
                        execution.raise_if_cancelled()
                        threading.Event().wait(0.001)  # what a computation looks like from here
            except broker.ExecutionCancelled as error:
                ended.append(error.cause.reason)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    async with broker.connect(redis_url, sweep=False) as control:
        await wait_until(inside.is_set, "the body")
        report = await control.cancel_run(RUN, reason="look", wait=10.0)
    await asyncio.to_thread(thread.join)
    assert ended == ["look"]
    assert (report.state, report.dispositions) == ("settled", {"stopped": 1})


# --- refused before anything happens ------------------------------------------------------------------


async def test_ids_are_checked_before_anything_is_done(fleet: Fleet) -> None:
    worker = fleet.worker
    for bad in ("", "a b", "{x}", "a|b", "@x", "x" * 201):
        with pytest.raises(broker.InvalidId, match="run_id"):
            worker.execution(bad, "x")
        with pytest.raises(broker.InvalidId, match="execution_id"):
            worker.execution(RUN, bad)
        with pytest.raises(broker.InvalidId, match="parent_execution_id"):
            worker.execution(RUN, "x", parent_execution_id=bad)
    with pytest.raises(broker.InvalidInput, match="run\\(\\) takes"):
        await worker.run("x", run_id=RUN, execution_id="x")  # type: ignore[call-overload]
    assert await fleet.parts.reads.executions(RUN) == {}


async def test_a_block_is_entered_once(fleet: Fleet) -> None:
    execution = fleet.worker.execution(RUN, "x")
    async with execution:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await execution.__aenter__()


async def test_a_worker_outside_of_its_own_block_says_so(redis_url: str) -> None:
    worker = broker.Worker(redis_url)
    with pytest.raises(broker.BrokerUnavailable, match="inside its `with` block"):
        async with worker.execution(RUN, "x"):
            pytest.fail("ran before the worker did")
    async with worker:
        pass
    with pytest.raises(broker.BrokerUnavailable, match="inside its `with` block"):
        async with worker.execution(RUN, "x"):
            pytest.fail("ran after the worker had")
    with pytest.raises(RuntimeError, match="once"):
        await worker.__aenter__()


async def test_a_block_that_outlives_its_worker_ends_as_its_body_does(redis_url: str) -> None:
    async with broker.Worker(redis_url) as worker:
        body = await Body(worker, "x").begun()
    body.go_on.set()
    assert await body.end() is None


async def test_without_redis_no_body_runs(redis_server: RedisServer) -> None:
    quick = WorkerSettings(url=redis_server.url, worker_id="w1", timeout_s=0.3)
    async with broker.Worker.with_settings(quick) as worker:
        redis_server.pause()
        body = Body(worker, "x")
        with pytest.raises(broker.BrokerUnavailable):
            async with asyncio.timeout(5.0):
                await body.task
        assert body.steps == []
        redis_server.resume()
        body = await Body(worker, "y").begun()
        body.go_on.set()
        assert await body.end() is None


async def test_without_redis_no_worker_starts() -> None:
    nobody = WorkerSettings(url="redis://127.0.0.1:1/0", worker_id="w1", timeout_s=0.2)
    with pytest.raises(broker.BrokerUnavailable):
        async with asyncio.timeout(5.0), broker.Worker.with_settings(nobody):
            pytest.fail("entered without Redis")
