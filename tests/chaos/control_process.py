"""One control plane of the fleet: `python -m tests.chaos.control_process ORDERS`. It registers, cancels, and dies.

What it was answered it writes down before it goes on: an accepted cancel is a promise that is looked at in the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from pathlib import Path

import broker
from tests.chaos.child import Orders, run
from tests.chaos.plan import CancelPlan, ExecutionPlan, Kind, RunPlan, plan_run
from tests.chaos.truth import TruthFile, now_us
from tests.support.wait import spread

ATTEMPTS = 4
TIMEOUT_S = 2.0


class ControlProcess:
    """Does what the plan gives this control plane to do, when it is due."""

    def __init__(self, orders: Orders, control: broker.Broker, truth: TruthFile) -> None:
        self._orders = orders
        self._control = control
        self._truth = truth
        self._doing: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Until it is cancelled. A new one takes up what is due from now on."""
        shape = self._orders.shape
        number = max(0, int((now_us() - self._orders.began_us) / 1e6 * shape.runs_per_s))
        while now_us() < self._orders.ends_us:
            await spread(max(0.0, shape.due_s(number) - (now_us() - self._orders.began_us) / 1e6))
            plan = plan_run(shape, number)
            if plan.control == self._orders.index:
                self._do(self._register(plan))
            for cancel in plan.cancels:
                if cancel.control == self._orders.index:
                    self._do(self._cancel(cancel))
            number += 1
        await asyncio.Event().wait()  # its sweep goes on

    def _do(self, what: Awaitable[None]) -> None:
        doing = asyncio.ensure_future(what)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)

    async def _register(self, plan: RunPlan) -> None:
        known = [one for one in plan.executions if one.registered]
        if not known:
            return
        if plan.registered_late:
            known.reverse()
            await spread(0.4)
        for page in (known[0::2], known[1::2]) if plan.registered_late else (known,):
            for _ in range(ATTEMPTS):
                try:
                    answer = await self._control.register(plan.run_id, [_registration(one) for one in page])
                except broker.BrokerUnavailable:
                    continue
                self._truth.write("registered", plan.run_id, answer.registered, len(answer.refused))
                break

    async def _cancel(self, plan: CancelPlan) -> None:
        await spread(plan.at_s)
        for _ in range(ATTEMPTS):
            self._truth.write("asked", plan.run_id, plan.scope, plan.target)
            try:
                report = await self._call(plan)
            except broker.BrokerUnavailable:
                continue
            except (broker.NotFound, broker.AlreadyTerminal) as error:
                self._truth.write("not_accepted", plan.run_id, plan.scope, plan.target, type(error).__name__)
            except Exception as error:  # noqa: BLE001 - nothing else should ever come out: it is a finding
                self._truth.write("surprise", plan.run_id, repr(error))
            else:
                self._accepted(plan, report)
            return

    async def _call(self, plan: CancelPlan) -> broker.CancelReport:
        if plan.scope == "run":
            return await self._control.cancel_run(plan.run_id, **plan.options)
        if plan.scope == "subtree":
            return await self._control.cancel_subtree(plan.target, **plan.options)
        return await self._control.cancel_execution(plan.target, **plan.options)

    def _accepted(self, plan: CancelPlan, report: broker.CancelReport) -> None:
        settled_us = 0 if report.settled_at is None else round(report.settled_at.timestamp() * 1e6)
        self._truth.write(
            "accepted", report.run_id or f"@{plan.target}", report.cancel_id, plan.scope, plan.target,
            report.state, settled_us, report.totals.still_running,
        )  # fmt: skip


def _registration(plan: ExecutionPlan) -> broker.Execution:
    status = "running" if plan.kind is Kind.GHOST else ("pending", "queued", "waiting")[int(plan.variant * 3)]
    return broker.Execution(plan.execution_id, plan.parent, status)


async def main(orders: Orders, truth: TruthFile) -> None:
    while True:
        try:
            async with broker.connect(orders.url, timeout=TIMEOUT_S) as control:
                truth.write("process", "control", 0, os.getpid())
                await ControlProcess(orders, control, truth).work()
        except broker.BrokerUnavailable:
            truth.write("waiting", "BrokerUnavailable")
            await spread(0.3)


if __name__ == "__main__":
    given = Orders.parse(sys.argv[1])
    name = f"control-{given.index}-{os.getpid()}"
    with TruthFile(Path(given.folder) / f"{name}.jsonl") as file:
        run(main(given, file), name, Path(given.folder))
