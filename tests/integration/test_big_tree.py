"""Large and deep: thousands of executions over two worker processes, and a chain of twenty thousand.

Deeper than any recursion and any number of reads a level, and large enough that what is quadratic never ends; ten
thousand executions on two processes are what tests/benchmarks cancels.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

import broker
from broker import Execution
from tests.support.backends import Capability
from tests.support.observer import assert_children_first, assert_each_once, observing
from tests.support.parts import Parts
from tests.support.tree import ROOT

RUN = "run-1"
BIG = 4_000
DEEP = 20_000
PATIENCE_S = 60.0

pytestmark = [pytest.mark.needs(Capability.OWN_PROCESS), pytest.mark.timeout(180)]


@asynccontextmanager
async def fleet_worker(url: str, executions: Iterable[Execution]) -> AsyncIterator[Process]:
    """A process that holds these; it is inside all of them when the block begins."""
    command = [sys.executable, "-m", "tests.support.fleet_worker", url, RUN]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    assert process.stdin is not None
    try:
        lines = [f"{one.execution_id} {one.parent_execution_id or ''}" for one in executions]
        process.stdin.write("\n".join(lines).encode())
        process.stdin.write_eof()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


async def test_thousands_of_executions_on_two_processes_stop_bottom_up(redis_url: str) -> None:
    """Of each hundred two have ended, five wait in a queue, and the others run: half of them in each process."""
    parents = {f"e{n}": f"e{(n - 1) // 4}" for n in range(1, BIG)}
    tree = [Execution("e0"), *(Execution(one, parent_execution_id=parent) for one, parent in parents.items())]
    ended = [Execution(one.execution_id, one.parent_execution_id, "done") for one in tree[98::100] + tree[99::100]]
    queued = [one for n, one in enumerate(tree) if 93 <= n % 100 < 98]
    running = [one for n, one in enumerate(tree) if n % 100 < 93]
    expected = [one.execution_id for one in (*queued, *running)]
    async with (
        broker.connect(redis_url, timeout=PATIENCE_S) as b,
        observing(redis_url) as observer,
        fleet_worker(redis_url, running[0::2]) as one,
        fleet_worker(redis_url, running[1::2]) as other,
    ):
        await b.register(RUN, [*queued, *ended])
        assert {await said(one), await said(other)} == {f"holding {len(running) // 2}"}
        report = await b.cancel_run(RUN, reason="the big one", wait=PATIENCE_S)
        assert {await said(one), await said(other)} == {f"stopped {len(running) // 2}"}
        assert [await one.wait(), await other.wait()] == [0, 0]
        told = await observer.first_attempts()
    assert_each_once(told, expected)
    assert_children_first(told, parents)
    assert report.settled
    assert report.still_running == ()
    assert report.dispositions == {"stopped": len(running), "never_started": len(queued)}
    totals = report.totals
    assert (totals.executions, totals.cancelled, totals.skipped, totals.errors) == (BIG, len(expected), len(ended), 0)
    assert report.ack_lag.stopped.count == len(running)
    assert len(report.nodes) == BIG
    assert [node.depth for node in report.nodes] == sorted((node.depth for node in report.nodes), reverse=True)


async def test_t17_a_chain_of_twenty_thousand_is_cancelled_and_settles(redis_url: str, parts: Parts) -> None:
    """As a subtree, so that also the climb from the one straggler at its end goes all the way up."""
    chain = [Execution("e0")]
    chain += [Execution(f"e{n}", parent_execution_id=f"e{n - 1}") for n in range(1, DEEP - 1)]
    chain.append(Execution("end", parent_execution_id=f"e{DEEP - 2}", status="running"))
    async with broker.connect(redis_url, timeout=PATIENCE_S, sweep=False) as b:
        assert (await b.register(RUN, chain)).registered == DEEP
        report = await b.cancel_subtree("e0")
        assert (report.state, report.totals.cancelled, report.totals.settled) == ("open", DEEP, DEEP - 1)
        assert [(one.execution_id, one.depth) for one in report.still_running] == [("end", DEEP - 1)]
        assert [node.execution_id for node in report.nodes[:2]] == ["end", f"e{DEEP - 2}"]
        assert await parts.claims.report_status(RUN, "end", "failed") == "settled"
        operation = await parts.only_operation(RUN)
        assert (operation.state, operation.phase) == ("settled", "published")
