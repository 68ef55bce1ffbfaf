"""Beyond what can be exhausted: hypothesis walks through a world with everything in it, and shrinks what it finds."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.protocol.states import Scope
from tests.model.explorer import next_steps
from tests.model.game import Game
from tests.model.invariants import check_end, check_state, check_step
from tests.model.state import State, Step
from tests.model.world import Asked, Budget, Event, Execution, World

EVERYTHING = World(
    "everything",
    (
        Execution("root", workers=(0, 1), starts=2),
        Execution("child", "root", workers=(0, 1), starts=2, ends=("failed", "queued")),
        Execution("grandchild", "middle", workers=(0, 1), spawned=False, ends=("succeeded",)),
        Execution("late", "child", workers=(0, 1), spawned=True),
    ),
    (Asked(), Asked(Scope.SUBTREE, "child"), Asked(Scope.EXECUTION, "grandchild")),
    known=(("root", "", "pending"), ("child", "root", "queued"), ("grandchild", "middle", "pending")),
    events=(
        Event("middle", "pending", "register", "child"),
        Event("root", "waiting", while_runs="root"),
        Event("child", "timeout", while_runs="child"),
    ),
    workers=2,
    drivers=2,
    budget=Budget(2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1),
)
GAME = Game(EVERYTHING)
FAIR_STEPS = 2_000
"""More than any fair run needs: one that takes more goes round in circles."""


class Walk(RuleBasedStateMachine):
    """One order of steps; at its end everything that is under way comes to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State = GAME.start()

    @rule(choice=st.integers(0, 1_000))
    def step(self, choice: int) -> None:
        steps = self._steps()
        if steps:
            self._take(steps[choice % len(steps)])

    @invariant()
    def holds(self) -> None:
        check_state(GAME, self.state)

    def teardown(self) -> None:
        taken = Counter[str]()
        for _ in range(FAIR_STEPS):
            fair = [step for step in self._steps() if step.fair]
            if not fair:
                return check_end(GAME, self.state)
            seldom = min(fair, key=lambda step: taken[step.name])  # a sweep that goes on looking must not starve time
            taken[seldom.name] += 1
            self._take(seldom)
            check_state(GAME, self.state)
        raise AssertionError(f"no end after {FAIR_STEPS} fair steps")

    def _steps(self) -> list[Step]:
        return [step for step in next_steps(GAME, self.state) if step.state != self.state]

    def _take(self, step: Step) -> None:
        check_step(self.state, step)
        self.state = step.state


Walk.TestCase.settings = settings(max_examples=12, stateful_step_count=50, deadline=None)
TestWalks = Walk.TestCase
