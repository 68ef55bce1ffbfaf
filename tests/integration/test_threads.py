"""Threads can only be asked, and are believed to have stopped when their function has returned."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import broker
from broker.worker.execution import HeldExecution
from broker.worker.listener import WorkerSettings
from tests.support.fleet import RUN, Fleet, open_fleet, settings
from tests.support.points import PATIENCE_S, holding
from tests.support.redis_server import RedisServer
from tests.support.threads import ThreadBody, deaf, obedient
from tests.support.wait import wait_until

MANY = 200


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with open_fleet(redis_url) as fleet:
        yield fleet


def cancel(url: str, **options: Any) -> broker.CancelReport:
    """From a thread: a control plane of its own."""

    async def once() -> broker.CancelReport:
        async with broker.connect(url, sweep=False) as control:
            return await control.cancel_run(RUN, reason="enough", **options)

    return asyncio.run(once())


async def inside(url: str, work: Callable[[HeldExecution], object]) -> object:
    """Runs `work` in `with worker.execution` of a plain `with Worker`, in a thread without a loop."""

    def run() -> object:
        with broker.Worker.with_settings(settings(url)) as worker, worker.execution(RUN, "x") as execution:
            return work(execution)

    return await asyncio.to_thread(run)


# --- worker.run ---------------------------------------------------------------------------------------


async def test_the_result_and_the_arguments_are_the_functions(fleet: Fleet) -> None:
    def add(a: int, *, b: int) -> tuple[int, str]:
        return a + b, threading.current_thread().name

    answer = await fleet.worker.run(add, 1, b=2, run_id=RUN, execution_id="x")
    assert answer == (3, "broker-body-x")
    assert await fleet.parts.status(RUN, "x") == "succeeded"


@pytest.mark.parametrize("error", [ValueError("its own"), asyncio.CancelledError("raised by hand"), SystemExit(3)])
async def test_what_the_function_raises_comes_out(fleet: Fleet, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await fleet.worker.run(fail, run_id=RUN, execution_id="x")
    assert raised.value is error
    assert await fleet.parts.status(RUN, "x") in ("failed", "cancelled")


async def test_a_stop_iteration_comes_out_as_it_does_of_a_coroutine(fleet: Fleet) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await fleet.worker.run(next, iter(()), run_id=RUN, execution_id="x")
    assert await fleet.parts.status(RUN, "x") == "failed"


async def test_what_is_no_function_is_refused(fleet: Fleet) -> None:
    with pytest.raises(broker.InvalidInput):
        await fleet.worker.run("no function", run_id=RUN, execution_id="x")  # type: ignore[call-overload]


async def test_two_hundred_threads_stop(fleet: Fleet) -> None:
    bodies = [ThreadBody(fleet.worker, f"x-{number}", obedient) for number in range(MANY)]
    for body in bodies:
        await body.begun()
    report = await fleet.control.cancel_run(RUN, wait=60.0)
    ends = [await body.end() for body in bodies]
    assert {type(error) for error in ends} == {broker.ExecutionCancelled}
    assert (report.state, report.dispositions) == ("settled", {"stopped": MANY})


async def test_a_thread_that_never_looks_is_stopping_until_it_ends(fleet: Fleet) -> None:
    body = await ThreadBody(fleet.worker, "x", deaf).begun()
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    (first,) = (await fleet.control.report(RUN)).still_running
    (later,) = (await fleet.control.report(RUN)).still_running
    assert (later.worker_id, later.disposition) == ("w1", "received")
    assert later.age > first.age > 0
    body.go_on.set()
    assert await body.task == "its own result"
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("ended_itself", "succeeded")


async def test_t26_stopped_is_said_when_the_function_has_returned_and_not_before(fleet: Fleet) -> None:
    def slow_to_go(body: ThreadBody) -> None:
        assert body.execution.wait(PATIENCE_S)
        body.steps.append("heard")
        assert body.go_on.wait(PATIENCE_S)

    body = await ThreadBody(fleet.worker, "x", slow_to_go).begun()
    await fleet.control.cancel_run(RUN)
    await wait_until(lambda: body.steps == ["heard"], "the thread to hear")
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert await body.end() is None
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("stopped", "cancelled")


async def test_the_thread_goes_on_when_what_awaits_it_is_cancelled(fleet: Fleet) -> None:
    body = await ThreadBody(fleet.worker, "x", deaf).begun()
    body.task.cancel()
    assert isinstance(await body.end(), asyncio.CancelledError)
    assert await fleet.parts.status(RUN, "x") == "running"
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    body.go_on.set()
    assert (await fleet.settled_ack("x")).outcome == "succeeded"


async def test_the_thread_ends_when_the_loop_that_awaited_it_is_gone(redis_url: str, fleet: Fleet) -> None:
    ended, go_on = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(PATIENCE_S)
        ended.set()

    async def start() -> None:
        began = asyncio.ensure_future(fleet.worker.run(work, run_id=RUN, execution_id="x"))
        await wait_until(lambda: any(t.name == "broker-body-x" for t in threading.enumerate()), "the thread to start")
        began.cancel()

    await asyncio.to_thread(asyncio.run, start())
    go_on.set()

    async def succeeded() -> bool:
        record = await fleet.parts.reads.execution(RUN, "x")
        return record is not None and record.raw_status == "succeeded"

    await wait_until(succeeded, "its end to be written")
    assert ended.is_set()


async def test_the_current_execution_is_the_threads_own(fleet: Fleet) -> None:
    def own() -> str:
        execution = broker.current_execution()
        assert execution is not None
        return execution.execution_id

    async with fleet.worker.execution(RUN, "outer"):
        assert await fleet.worker.run(own, run_id=RUN, execution_id="inner") == "inner"
        assert own() == "outer"
    assert broker.current_execution() is None


async def test_cancelled_before_the_start_the_function_is_not_called(fleet: Fleet) -> None:
    await fleet.control.register(RUN, [broker.Execution("x")])
    await fleet.control.cancel_run(RUN, reason="too late")
    body = ThreadBody(fleet.worker, "x", deaf)
    error = await body.end()
    assert isinstance(error, broker.ExecutionCancelled)
    assert error.cause.reason == "too late"
    assert not body.inside.is_set()


async def test_cancelled_on_the_way_in_the_function_is_not_called(fleet: Fleet) -> None:
    with holding("worker.started") as entering:
        body = ThreadBody(fleet.worker, "x", deaf)
        await entering.arrived()
        with holding("worker.applied"):
            await fleet.control.cancel_run(RUN)
            await wait_until(lambda: bool(_early(fleet)), "the cancel to be heard")
        entering.release()
        assert isinstance(await body.end(), broker.ExecutionCancelled)
    assert not body.inside.is_set()
    assert (await fleet.settled_ack("x")).disposition == "stopped"


def _early(fleet: Fleet) -> bool:
    held = fleet.worker._listener.held.get("x")
    return held is not None and held.early is not None


# --- plain `with` ---------------------------------------------------------------------------------------


async def test_a_plain_block_hears_its_cancel(redis_url: str) -> None:
    def work(execution: HeldExecution) -> None:
        assert not execution.wait(0.0)
        assert (execution.cancel_requested, execution.cause, execution.forced) == (False, None, False)
        execution.raise_if_cancelled()
        cancel(redis_url, requested_by="ops")
        assert execution.wait(PATIENCE_S)
        assert execution.cause is not None
        assert (execution.cause.reason, execution.cause.requested_by) == ("enough", "ops")
        execution.raise_if_cancelled()

    with pytest.raises(broker.ExecutionCancelled) as raised:
        await inside(redis_url, work)
    assert raised.value.execution_id == "x"
    async with broker.connect(redis_url, sweep=False) as control:
        assert (await control.report(RUN)).dispositions == {"stopped": 1}


async def test_a_callback_runs_on_a_helper_thread(redis_url: str) -> None:
    callers: list[threading.Thread] = []
    reasons: list[str | None] = []
    called, again = threading.Event(), threading.Event()

    def note(done: threading.Event) -> Callable[[broker.CancelCause], None]:
        def callback(cause: broker.CancelCause) -> None:
            callers.append(threading.current_thread())
            reasons.append(cause.reason)
            done.set()

        return callback

    def work(execution: HeldExecution) -> None:
        execution.on_cancel(note(called))
        cancel(redis_url)
        assert called.wait(PATIENCE_S)
        execution.on_cancel(note(again))
        assert again.wait(PATIENCE_S)
        assert threading.current_thread() not in callers

    await inside(redis_url, work)
    assert reasons == ["enough", "enough"]
    assert "broker-listener" not in {thread.name for thread in callers}
    assert threading.main_thread() not in callers


async def test_what_its_callback_ends_has_stopped(fleet: Fleet) -> None:
    """The usual one closes what the thread waits for; the thread itself never looks."""

    def work(body: ThreadBody) -> None:
        body.execution.on_cancel(lambda cause: body.go_on.set())
        assert body.go_on.wait(PATIENCE_S)
        raise OSError("closed under my hands")

    body = await ThreadBody(fleet.worker, "x", work).begun()
    await fleet.control.cancel_run(RUN)
    assert isinstance(await body.end(), OSError)
    ack = await fleet.settled_ack("x")
    assert (ack.disposition, ack.outcome) == ("stopped", "failed")


async def test_a_callback_that_fails_harms_nothing(fleet: Fleet) -> None:
    def work(body: ThreadBody) -> None:
        body.execution.on_cancel(lambda cause: body.steps.remove("nothing"))
        obedient(body)

    body = await ThreadBody(fleet.worker, "x", work).begun()
    report = await fleet.control.cancel_run(RUN, wait=PATIENCE_S)
    assert report.dispositions == {"stopped": 1}
    assert isinstance(await body.end(), broker.ExecutionCancelled)


async def test_a_block_is_entered_once(redis_url: str) -> None:
    def work(execution: HeldExecution) -> None:
        with pytest.raises(RuntimeError, match="entered once"):
            execution.__enter__()

    await inside(redis_url, work)


async def test_a_plain_block_would_block_an_event_loop(fleet: Fleet) -> None:
    with pytest.raises(RuntimeError, match="use `async with`"), fleet.worker.execution(RUN, "x"):
        pytest.fail("entered")
    assert await fleet.parts.reads.execution(RUN, "x") is None


async def test_a_block_may_be_left_in_another_thread(fleet: Fleet) -> None:
    """As a generator's may: its end is recorded all the same."""
    execution = fleet.worker.execution(RUN, "x")
    await asyncio.to_thread(execution.__enter__)
    await asyncio.to_thread(execution.__exit__, None, None, None)
    assert await fleet.parts.status(RUN, "x") == "succeeded"


async def test_without_redis_no_plain_worker_starts() -> None:
    def enter() -> None:
        with broker.Worker("redis://127.0.0.1:1/0", timeout=0.2):
            pytest.fail("entered without Redis")

    with pytest.raises(broker.BrokerUnavailable):
        await asyncio.to_thread(enter)


async def test_without_redis_no_function_is_called(redis_server: RedisServer) -> None:
    quick = WorkerSettings(url=redis_server.url, worker_id="w1", timeout_s=0.3)
    async with broker.Worker.with_settings(quick) as worker:
        redis_server.pause()
        body = ThreadBody(worker, "x", deaf)
        assert isinstance(await body.end(), broker.BrokerUnavailable)
        assert not body.inside.is_set()
        redis_server.resume()


async def test_after_the_worker_no_function_is_called(redis_url: str) -> None:
    async with broker.Worker(redis_url) as worker:
        pass
    body = ThreadBody(worker, "x", deaf)
    assert isinstance(await body.end(), broker.BrokerUnavailable)
    assert not body.inside.is_set()
