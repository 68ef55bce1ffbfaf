"""Tries everything: every state of a world that any order of steps leads to, each once.

Two states that differ only in what no script and no process compares are one (contents.py). The first violation ends
the exploration, with the steps that led there; breadth first, so with the fewest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from tests.model.control_plane import control_plane_steps
from tests.model.driver import driver_steps
from tests.model.faults import fault_steps
from tests.model.game import Game
from tests.model.hearing import hearing_steps
from tests.model.invariants import check_end, check_state, check_step
from tests.model.losses import loss_steps
from tests.model.state import Broken, State, Step
from tests.model.sweep import sweep_steps
from tests.model.worker import worker_steps


class Explored(NamedTuple):
    """What was seen. `complete`: there is nothing else. `ends`: fair ends; `calls`: scripts run."""

    states: int
    transitions: int
    ends: int
    calls: int
    seconds: float
    complete: bool


class Violation(AssertionError):
    """An invariant, and the steps to the state in which it does not hold."""

    def __init__(self, broken: Broken, steps: list[str]) -> None:
        super().__init__("\n".join([str(broken), "after:", *(f"  {n}. {step}" for n, step in enumerate(steps, 1))]))
        self.invariant = broken.invariant
        self.steps = steps


def next_steps(game: Game, state: State) -> Iterator[Step]:
    """Everything that can happen now and changes something."""
    for number in range(len(state.drivers)):
        if number and state.drivers[number] in state.drivers[:number]:
            continue  # processes that know the same do the same: one of them moves
        yield from driver_steps(game, state, number)
        yield from sweep_steps(game, state, number)
    for number in range(len(state.workers)):
        yield from worker_steps(game, state, number)
        yield from hearing_steps(game, state, number)
        yield from fault_steps(game, state, number)
    yield from control_plane_steps(game, state)
    yield from loss_steps(game, state)


def explore(game: Game, limit: int = 1_000_000, *, deepest_first: bool = False) -> Explored:
    """Explores at most `limit` states. Raises Violation."""
    began = time.perf_counter()
    start = game.start()
    came_from: dict[int, tuple[int, str]] = {hash(start): (0, "")}
    waiting = deque([start])
    transitions = ends = 0
    while waiting and len(came_from) < limit:
        state = waiting.pop() if deepest_first else waiting.popleft()
        taken = 0
        try:
            check_state(game, state)
            fair = False
            for step in next_steps(game, state):
                if step.state == state:
                    continue
                check_step(state, step)
                taken, fair, key = taken + 1, fair or step.fair, hash(step.state)
                if key not in came_from:
                    came_from[key] = (hash(state), step.name)
                    waiting.append(step.state)
            if not fair:
                ends += 1
                check_end(game, state)
        except Broken as broken:
            raise Violation(broken, [*_steps_to(came_from, state), f"({broken.invariant})"]) from broken
        transitions += taken
    seconds = time.perf_counter() - began
    return Explored(len(came_from), transitions, ends, game.memory.calls, seconds, not waiting)


def _steps_to(came_from: dict[int, tuple[int, str]], state: State) -> list[str]:
    steps: list[str] = []
    key, name = came_from[hash(state)]
    while name:
        steps.append(name)
        key, name = came_from[key]
    return steps[::-1]
