"""The state of a world: what stands in Redis, and what each process knows. Steps make new ones."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from broker.protocol.records import IntentRecord
from tests.model.contents import Contents
from tests.model.world import Budget


class Phase(IntEnum):
    """How far an execution has come on a worker (`Listener.hold`, `finish`)."""

    SUBSCRIBING = 0
    CONFIRMED = 1
    ANSWERED = 2
    """`start` has claimed in Redis; its answer is under way."""
    RUNNING = 3
    ENDING = 4
    """The body has ended; that is not written down yet."""


class Hold(NamedTuple):
    """What `Held` and its body know. `answer` is the number that `start` answered before it has arrived."""

    execution_id: str
    phase: Phase = Phase.SUBSCRIBING
    start: int = 0
    answer: int = 0
    early: IntentRecord | None = None
    subscribed: bool = False
    applied: frozenset[tuple[int, str, bool]] = frozenset()
    told: bool = False
    forced: bool = False
    interrupted: bool = False
    """A cooperative cancel was delivered after a forced one: the forced cleanup was interrupted."""
    superseded: bool = False
    by_event: bool = False
    remote: bool = False
    before_loss: bool = False
    """Redis has lost data while its `start` was under way."""
    announced: bool = False
    seq: int = 0
    outcome: tuple[str, str] = ("", "")


class Said(NamedTuple):
    """An ack that is under way; acks and ends arrive in any order."""

    execution_id: str
    start: int
    seq: int
    disposition: str


class Worker(NamedTuple):
    """One worker process. `fresh`: the epoch it has seen is the run's.

    `polled`: a poll is under way; whether the epoch that it read still is the run's, and what it will read.
    """

    incarnation: int = 1
    counter: int = 1
    """Of the worker id: above its incarnation it is fenced, and proved dead to the broker."""
    up: bool = True
    connected: bool = True
    unconfirmed: bool = False
    was_cut: bool = False
    beating: bool = True
    fenced: bool = False
    fresh: bool = True
    polled: tuple[bool, frozenset[str]] | None = None
    holds: tuple[Hold, ...] = ()
    inbox: frozenset[str] = frozenset()
    outbox: frozenset[Said] = frozenset()
    met: bool = True
    """It has said again what it holds since Redis lost data."""
    ended: frozenset[tuple[str, int, str, str]] = frozenset()
    """Ends that were written down: execution, start, status, disposition."""

    def hold(self, execution_id: str) -> Hold | None:
        return next((one for one in self.holds if one.execution_id == execution_id), None)

    def with_hold(self, hold: Hold) -> Worker:
        others = [one for one in self.holds if one.execution_id != hold.execution_id]
        return self._replace(holds=tuple(sorted([*others, hold])))

    def without(self, execution_id: str) -> Worker:
        """As `Listener._release`: not held, not subscribed."""
        return self._replace(
            holds=tuple(one for one in self.holds if one.execution_id != execution_id),
            inbox=self.inbox - {execution_id},
        )


class Stage(IntEnum):
    """How far a driver has come (`Engine.cancel`, `Settler`)."""

    IDLE = 0
    LISTED = 1
    OPENED = 2
    BEGUN = 3
    LOADED = 4
    SETTLING = 5
    SEEN = 6
    """`v` of a subtree operation is read."""
    CLEAR = 7
    """Nothing unsettled was found below the target."""
    LEAVING = 8


class Driver(NamedTuple):
    """One process that drives an operation. `leads`: its fence number is the newest; `fresh`: so is the `v` it read.

    `read_first`, `posted`: what a mutant has done before its time.
    """

    stage: Stage = Stage.IDLE
    asked: int = -1
    todo: tuple[str, ...] = ()
    leads: bool = True
    fresh: bool = True
    read_first: bool = False
    posted: bool = False


class State(NamedTuple):
    """Everything. `told_once`: attempt 1 was published; `foreign`: bodies that an event announced; `inserting`: events
    that have looked at the gate and are yet to write (a mutant)."""

    contents: Contents
    workers: tuple[Worker, ...]
    drivers: tuple[Driver, ...]
    budget: Budget
    asked: frozenset[int] = frozenset()
    events: frozenset[int] = frozenset()
    starts: tuple[int, ...] = ()
    told_once: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    lost_once: frozenset[str] = frozenset()
    inserting: frozenset[int] = frozenset()
    to_assert: frozenset[int] = frozenset()
    """What its openers are to assert again after a loss."""
    asserted: frozenset[int] = frozenset()
    saved: Contents | None = None
    """What is left after a loss, if not nothing."""

    def with_worker(self, number: int, worker: Worker) -> State:
        return self._replace(workers=(*self.workers[:number], worker, *self.workers[number + 1 :]))

    def with_driver(self, number: int, driver: Driver) -> State:
        return self._replace(drivers=(*self.drivers[:number], driver, *self.drivers[number + 1 :]))

    def spend(self, what: str) -> State:
        return self._replace(budget=self.budget._replace(**{what: getattr(self.budget, what) - 1}))


class Step(NamedTuple):
    """One thing that can happen. `fair` ones happen sooner or later; the others may never."""

    name: str
    state: State
    fair: bool = True
    verb: str = ""
    """`claimed` or `refused` by start, `finish` by a holder, `event`, or `again`: one that proves nothing."""
    execution_id: str = ""
    """Whom the verb is about."""


class Broken(AssertionError):
    """An invariant that does not hold: its name, and what was seen."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
