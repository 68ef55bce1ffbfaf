"""A world over a memory: script calls from a state, and where their messages and counters go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from broker.store.claims import Registration
from broker.store.keys import Lifetimes
from broker.store.scripts import Script, Scripts
from tests.model.contents import FREE, LEASED, LONG_AGO, RUN, STAMP, Contents
from tests.model.memory import CHANNELS, KEYS, RUN_KEYS, Memory, Outcome
from tests.model.state import Broken, Driver, State, Worker
from tests.model.world import World

SCRIPTS = Scripts(Lifetimes())


def cancel_id(asked: int) -> str:
    return f"c{asked}"


def worker_id(number: int) -> str:
    return f"w{number}"


class Game:
    """One world with its scripts, which a mutant may have patched."""

    def __init__(self, world: World, scripts: Sequence[Script] = ()) -> None:
        self.world = world
        self._scripts = {one.name: one for one in scripts or SCRIPTS.all()}
        self.memory = Memory(list(self._scripts.values()))

    def off(self, rule: str) -> bool:
        """Whether a rule of the processes is switched off."""
        return rule in self.world.off

    def start(self) -> State:
        """What is known is registered; nothing else has happened."""
        state = State(
            contents=Contents(),
            workers=(Worker(),) * self.world.workers,
            drivers=(Driver(),) * self.world.drivers,
            budget=self.world.budget,
            starts=(0,) * len(self.world.executions),
        )
        for execution_id, parent, status in self.world.known:
            state, _ = self.register(state, Registration(execution_id, status, parent))
        return state

    # --- calls ------------------------------------------------------------------------------------

    def on_run(self, state: State, name: str, *repeated: str, **arguments: str) -> tuple[State, Any]:
        """A script on the keys of the run, as `Backend.on_run`."""
        script = self._scripts[name]
        given = {"run_id": RUN, "channels": CHANNELS, **arguments}
        ordered = {one: given[one] for one in script.header.arguments}
        return self._after(state, script.command(RUN_KEYS, *repeated, **ordered))

    def enlist(self, state: State, entry: str) -> State:
        """As `Operations.enlist`."""
        command = self._scripts["list_operation"].command((KEYS.work_list,), entry=entry, delay_us="5000000")
        return self._after(state, command)[0]

    def drop(self, state: State, entry: str) -> State:
        """As `Operations.drop`."""
        return self._after(state, ("ZREM", KEYS.work_list, entry))[0]

    def register(self, state: State, what: Registration) -> tuple[State, Any]:
        """As `Claims.register`."""
        fields = (what.execution_id, what.status, what.parent_execution_id, "", "", "")
        return self.on_run(state, "register", *fields)

    def report(self, state: State, execution_id: str, status: str, *, again: bool = False) -> State:
        """As `Claims.report_status`: said now, so later than everything that was said before; or long ago."""
        stamp = f"{LONG_AGO if again else STAMP},0,0"
        return self.on_run(state, "report_status", execution_id, status, "", "", "", "", stamp, "", "", "")[0]

    def expired(self, contents: Contents, cancel: str) -> Contents:
        """The same after the lease of an operation has run out: the only way in which time passes."""
        cancels = tuple(
            (one, raw.replace(f'"lease_until_us":"{LEASED}"', f'"lease_until_us":"{FREE}"') if one == cancel else raw)
            for one, raw in contents.cancels
        )
        return replace(contents, cancels=cancels)

    def _after(self, state: State, command: tuple[str, ...]) -> tuple[State, Any]:
        outcome = self.memory.run(state.contents, command)
        state = state._replace(contents=outcome.contents)
        if outcome.epoch_rose:
            state = state._replace(
                workers=tuple(
                    one._replace(fresh=False, polled=one.polled and (False, one.polled[1])) for one in state.workers
                )
            )
        if outcome.v_rose:
            state = state._replace(
                drivers=tuple(
                    one._replace(fresh=False) if cancel_id(one.asked) in outcome.v_rose else one
                    for one in state.drivers
                )
            )
        return self._delivered(state, outcome), outcome.answer

    def _delivered(self, state: State, outcome: Outcome) -> State:
        """Messages wait at the workers that are subscribed; pub/sub forgets the others."""
        for told in outcome.told:
            if told.attempt == 1 and told.execution_id in state.told_once:
                raise Broken("at_most_one_attempt_1", f"attempt 1 of {told.execution_id} was published twice")
            state = state._replace(told_once=state.told_once | {told.execution_id})
            if "push" in self.world.paths:
                workers = tuple(_with_message(one, told.execution_id) for one in state.workers)
                state = state._replace(workers=workers)
        return state


def _with_message(worker: Worker, execution_id: str) -> Worker:
    hold = worker.hold(execution_id)
    if hold is None or not worker.connected or not hold.subscribed:
        return worker
    return worker._replace(inbox=worker.inbox | {execution_id})
