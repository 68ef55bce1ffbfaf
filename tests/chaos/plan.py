"""Pure: seed and number → one run: its tree, where each body runs, what it does, and who cancels it how and when.

No work is handed out: every process of the fleet works out the same plan by itself, so that none of them can be
missing when another one is killed. Times are offsets in seconds from the moment at which the run is due.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a body does."""

    QUICK = "quick"
    SLEEP = "sleep"
    FOREVER = "forever"
    CLEAN_UP = "clean_up"
    SWALLOW = "swallow"
    SHIELD = "shield"
    REFUSE = "refuse"
    FAIL = "fail"
    SPAWN = "spawn"
    THREAD = "thread"
    DEAF_THREAD = "deaf_thread"
    STUBBORN = "stubborn"
    PROCESS = "process"
    GHOST = "ghost"
    """Registered as running, and nobody ever starts it."""


_WEIGHTS = {
    Kind.QUICK: 400, Kind.SLEEP: 170, Kind.FOREVER: 150, Kind.CLEAN_UP: 80, Kind.SWALLOW: 50, Kind.SHIELD: 30,
    Kind.REFUSE: 20, Kind.FAIL: 30, Kind.SPAWN: 60, Kind.THREAD: 20, Kind.DEAF_THREAD: 5, Kind.STUBBORN: 15,
    Kind.PROCESS: 3, Kind.GHOST: 1,
}  # fmt: skip
MEAN_SIZE = 5.2
"""Executions of a run, those included that are spawned while it goes on; a test holds it to this."""


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """One execution. `again` is a second worker that tries to start it, too; `registered` says that it is known
    before it starts; `variant` tells bodies of one kind apart."""

    run_id: str
    execution_id: str
    parent: str | None
    kind: Kind
    worker: int
    at_s: float
    length_s: float
    variant: float
    registered: bool
    again: tuple[int, float] | None


@dataclass(frozen=True, slots=True)
class CancelPlan:
    """One call of a control plane; `target` is empty for a run."""

    run_id: str
    control: int
    at_s: float
    scope: str
    target: str
    options: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`registered_late` has the parents registered after their children have started."""

    run_id: str
    control: int
    registered_late: bool
    executions: tuple[ExecutionPlan, ...]
    cancels: tuple[CancelPlan, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the fleet is, and how fast runs come."""

    seed: int
    workers: int
    controls: int
    runs_per_s: float

    def due_s(self, number: int) -> float:
        return number / self.runs_per_s


def plan_run(shape: Shape, number: int) -> RunPlan:
    """The run with this number; the same for everyone who asks."""
    chance = random.Random(f"{shape.seed}/{number}")
    run_id = f"c{shape.seed}-{number}"
    control = number % shape.controls
    known = chance.random() < 0.6
    executions: list[ExecutionPlan] = []
    for index in range(chance.choice((1, 2, 3, 4, 5, 6, 8, 11))):
        executions.append(_execution(chance, shape, run_id, index, executions, known=known))
    cancels = tuple(_cancels(chance, shape, run_id, control, executions))
    return RunPlan(run_id, control, known and chance.random() < 0.1, tuple(executions), cancels)


def _execution(
    chance: random.Random, shape: Shape, run_id: str, index: int, before: list[ExecutionPlan], *, known: bool
) -> ExecutionPlan:
    kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    parent = chance.choice(before).execution_id if before and chance.random() < 0.9 else None
    length_s = chance.expovariate(1 / 0.03) if kind is Kind.QUICK else chance.uniform(0.2, 3.0)
    return ExecutionPlan(
        run_id,
        f"{run_id}.{index}",
        parent,
        kind,
        chance.randrange(shape.workers),
        chance.uniform(0.0, 0.5) + 0.1 * index,
        length_s,
        chance.random(),
        known or kind is Kind.GHOST,
        (chance.randrange(shape.workers), chance.uniform(0.05, 4.0)) if chance.random() < 0.05 else None,
    )


def _cancels(
    chance: random.Random, shape: Shape, run_id: str, control: int, executions: list[ExecutionPlan]
) -> Iterator[CancelPlan]:
    """None, one, or several that meet; nearly every run with a body that waits for ever gets one for all of it."""
    waits = any(one.kind in (Kind.FOREVER, Kind.STUBBORN) for one in executions)
    scopes = chance.choices(("execution", "subtree", "run"), k=chance.choice((0, 0, 1, 1, 2, 3)))
    if waits and "run" not in scopes and chance.random() < 0.98:
        scopes.append("run")
    for place, scope in enumerate(scopes):
        target = "" if scope == "run" else chance.choice(executions).execution_id
        options = _options(chance, f"{run_id}/{place}")
        if chance.random() < 0.05:
            options["allow_unknown"] = True
        at_s = chance.uniform(0.1, 2.3) + (chance.uniform(0.5, 2.0) if scope == "run" and place else 0.0)
        yield CancelPlan(run_id, control, at_s, scope, target, options)
        if "idempotency_key" in options and chance.random() < 0.3:  # repeated, perhaps by another process at once
            other = chance.randrange(shape.controls)
            yield CancelPlan(run_id, other, at_s + chance.choice((0.0, 0.3)), scope, target, options)


def _options(chance: random.Random, key: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "reason": key,
        "requested_by": "chaos",
        "deadline": chance.choice((1.0, 5.0, 30.0)),
        "order": "bottom_up_barrier" if chance.random() < 0.2 else "bottom_up",
        "grace": 0.3,
    }
    if chance.random() < 0.4:
        options["wait"] = chance.uniform(0.2, 3.0)
    if chance.random() < 0.3:
        options["force_after"] = chance.uniform(0.0, 2.0)
    if chance.random() < 0.5:
        options["idempotency_key"] = key
    return options
