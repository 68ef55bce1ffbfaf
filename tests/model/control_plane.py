"""What a control plane says: executions that it registers, statuses that it reports, each once."""

from __future__ import annotations

from collections.abc import Iterator

from broker.store.claims import Registration
from tests.model.game import Game
from tests.model.state import State, Step
from tests.model.worker import runs
from tests.model.world import Event


def control_plane_steps(game: Game, state: State) -> Iterator[Step]:
    """Every event of the world that may come now."""
    for place, event in enumerate(game.world.events):
        if place in state.events or not set(event.needs) <= state.events:
            continue
        if event.while_runs and not runs(state, event.while_runs):
            continue
        after = _apply(game, state._replace(events=state.events | {place}), event)
        name = f"event: {event.verb} {event.execution_id} {event.status} {event.parent}".rstrip()
        yield Step(name, after, fair=event.sure, verb="event", execution_id=event.execution_id)


def _apply(game: Game, state: State, event: Event) -> State:
    if event.verb == "register":
        state, _ = game.register(state, Registration(event.execution_id, event.status, event.parent))
    else:
        state = game.report(state, event.execution_id, event.status)
    if event.status == "running" and event.execution_id not in _claimed(state):
        return state._replace(foreign=state.foreign | {event.execution_id})
    return state._replace(foreign=state.foreign - {event.execution_id})


def _claimed(state: State) -> set[str]:
    """Those whose body a worker of the model runs: an event of them announces no other."""
    return {one for one, record in state.contents.records.items() if record.claimed}
