"""What a control plane says: executions that it registers, statuses that it reports, each once or delivered again."""

from __future__ import annotations

from collections.abc import Iterator

from broker.cancel.report import disposition_of
from broker.protocol.states import is_terminal
from broker.store.claims import Registration
from tests.model.game import Game
from tests.model.state import State, Step
from tests.model.worker import runs
from tests.model.world import Event


def control_plane_steps(game: Game, state: State) -> Iterator[Step]:
    """Every event of the world that may come now."""
    for place, event in enumerate(game.world.events):
        if place in state.inserting:
            after = _apply(game, state._replace(inserting=state.inserting - {place}), event)
            yield Step(f"event: insert of {event.execution_id}", after, verb="event", execution_id=event.execution_id)
        if place in state.events or not set(event.needs) <= state.events:
            continue
        if event.while_runs and not runs(state, event.while_runs):
            continue
        after = state._replace(events=state.events | {place})
        if game.off("gate_with_insert") and not state.contents.covered_by_gate(event.parent):
            after = after._replace(inserting=state.inserting | {place})
        elif not game.off("gate_with_insert"):
            after = _apply(game, after, event)
        name = f"event: {event.verb} {event.execution_id} {event.status} {event.parent}".rstrip()
        verb = "again" if event.again else "event"
        yield Step(name, after, fair=event.sure, verb=verb, execution_id=event.execution_id)


def _apply(game: Game, state: State, event: Event) -> State:
    announces = event.status == "running" and not _has_or_had_holder(state, event.execution_id)
    if event.verb == "register":
        state, _ = game.register(state, Registration(event.execution_id, event.status, event.parent))
    else:
        state = game.report(state, event.execution_id, event.status, again=event.again)
    if event.again:
        return state
    if announces:
        return state._replace(foreign=state.foreign | {event.execution_id})
    return state._replace(foreign=state.foreign - {event.execution_id})


def _has_or_had_holder(state: State, execution_id: str) -> bool:
    """Whether a worker of the model runs its body, or has ended it: an event announces no other, it only comes late.

    A retry of what was given back under a gate finds the intent, and does not run.
    """
    record, ack = state.contents.records.get(execution_id), state.contents.ack.get(execution_id)
    if ack is not None and ack.slot and disposition_of(ack).settled:
        return True
    if record is None or record.claimed:
        return record is not None
    ended = is_terminal(record.status) and execution_id not in state.contents.intent
    return record.start != "0" and ended and not record.stamp.endswith(("?", "+"))
