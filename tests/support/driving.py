"""A small tree, and cancels of it whose driver dies at a chosen point of the engine."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import broker
from broker import Execution
from broker.protocol.states import Scope
from tests.support.parts import Parts
from tests.support.points import PATIENCE_S, Died, dying, recording
from tests.support.tree import ROOT

RUN = "run-1"
PARENTS = {"mid": "root", "leaf": "mid", "leaf-2": "mid", "side": "root"}
TREE = ["root", *PARENTS]
ORDERS = ["bottom_up", "bottom_up_barrier"]

_POINT = re.compile(r'signals\.reached\(\s*"([a-z_.]+)"')


def points_of(*files: str) -> list[str]:
    """Every test signal that these files of the package pass, in the order of the source: none can be forgotten."""
    found = [point for file in files for point in _POINT.findall((ROOT / "broker" / file).read_text())]
    assert found, f"no signal in {files}"
    return list(dict.fromkeys(found))


async def register_tree(b: broker.Broker, status: str = "pending", run_id: str = RUN, prefix: str = "") -> None:
    """root → (mid → (leaf, leaf-2), side)"""
    tree = [Execution(f"{prefix}root", status=status)]
    tree += [
        Execution(prefix + child, parent_execution_id=prefix + parent, status=status)
        for child, parent in PARENTS.items()
    ]
    assert (await b.register(run_id, tree)).registered == len(TREE)


def causes(report: broker.CancelReport) -> dict[str, str]:
    return {one.execution_id: str(one.cause) for one in report.still_running}


async def work_list(parts: Parts) -> dict[str, int]:
    """Cancel id → due time, of the run."""
    flat = await parts.backend.commands.command("ZRANGE", parts.backend.keys.work_list, 0, -1, "WITHSCORES")
    return {entry.rpartition("|")[2]: int(float(due)) for entry, due in zip(flat[0::2], flat[1::2], strict=True)}


async def drive_and_die(
    b: broker.Broker,
    order: str,
    point: str,
    number: int = 1,
    *,
    scope: Scope = Scope.RUN,
    target: str = RUN,
    deadline: float = 30.0,
) -> str:
    """A cancel whose process ends at a point; answers its cancel id. `target` is the run or an execution."""
    cancel = {Scope.RUN: b.cancel_run, Scope.SUBTREE: b.cancel_subtree, Scope.EXECUTION: b.cancel_execution}[scope]
    with recording() as passed, dying(point, number) as dead:
        with suppress(Died):
            await cancel(target, order=order, deadline=deadline)
        async with asyncio.timeout(PATIENCE_S):
            await dead.wait()
    return next(subject for passed_point, subject in passed if passed_point == "cancel.listed")
