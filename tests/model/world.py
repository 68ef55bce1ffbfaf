"""What a small world is made of: its executions, who may run them, who cancels, and how much may go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from broker.protocol.states import Scope

PATHS = frozenset({"push", "poll", "reconcile", "redeliver", "confirm", "ask"})
"""The ways in which a worker hears; `confirm` is the order subscribe, confirm, start; `ask` is the poll of one without
Redis."""


class Execution(NamedTuple):
    """One execution that workers may start. `workers` are their numbers; a retry or a takeover is another start.

    `spawned`: by the running body of its parent only, whose id its start carries. `by_event`: these workers do
    not call `start`; they read the intents after their confirmation, run, and say so with an event.
    """

    execution_id: str
    parent: str = ""
    workers: tuple[int, ...] = (0,)
    starts: int = 1
    spawned: bool = False
    by_event: tuple[int, ...] = ()
    remote: tuple[int, ...] = ()
    """These workers have no Redis: they subscribe to nothing, and ask a server what stands against what they hold."""
    refuses: bool = False
    ends: tuple[str, ...] = ()
    """How its body may end without being told to: statuses; `queued` gives the claim back."""


class Event(NamedTuple):
    """What a control plane says, once, at any time after the events it needs; or never, unless it is `sure`."""

    execution_id: str
    status: str
    verb: str = "report"
    parent: str = ""
    needs: tuple[int, ...] = ()
    sure: bool = False
    while_runs: str = ""
    """Only as long as the body of this execution runs: it is the one that says so."""
    again: bool = False
    """An old event, delivered again: nothing happens in the world by it."""


class Asked(NamedTuple):
    """One cancel that is asked for, once. `needs` are numbers of cancels that are accepted before."""

    scope: Scope = Scope.RUN
    target: str = ""
    needs: tuple[int, ...] = ()


class Budget(NamedTuple):
    """How often each thing may go wrong."""

    drops: int = 0
    cuts: int = 0
    driver_crashes: int = 0
    worker_crashes: int = 0
    takeovers: int = 0
    missed_beats: int = 0
    forces: int = 0
    lost_answers: int = 0
    declared: int = 0
    restarts: int = 0
    losses: int = 0
    """Redis loses everything, or what came after it had last saved."""
    saves: int = 0
    again: int = 0
    """Redeliveries of what was heard already."""


NOTHING = Budget()


@dataclass(frozen=True)
class World:
    """A world. `known` is registered before anything happens: (execution id, parent, status)."""

    name: str
    executions: tuple[Execution, ...]
    asked: tuple[Asked, ...] = (Asked(),)
    known: tuple[tuple[str, str, str], ...] = ()
    events: tuple[Event, ...] = ()
    workers: int = 1
    drivers: int = 1
    budget: Budget = NOTHING
    paths: frozenset[str] = PATHS
    sure_cuts: bool = False
    """The connection of each worker breaks once after something that it holds was told, sooner or later."""
    off: frozenset[str] = field(default_factory=frozenset)
    """Rules that the processes of the model do not keep: names of mutants.py."""

    def execution(self, execution_id: str) -> Execution:
        return next(one for one in self.executions if one.execution_id == execution_id)
