"""What may go wrong with a worker, as often as the budget says."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.contents import Contents
from tests.model.game import Game, worker_id
from tests.model.hearing import say
from tests.model.state import Phase, State, Step, Worker


def fault_steps(game: Game, state: State, number: int) -> Iterator[Step]:
    """Cuts, crashes, missed heartbeats, declarations of death; and what mends them."""
    worker, who, budget = state.workers[number], worker_id(number), state.budget
    if not worker.beating and budget.declared and worker.counter == worker.incarnation:
        dead = worker._replace(counter=worker.counter + 1)
        yield Step(f"{who} is declared dead", state.with_worker(number, dead).spend("declared"), fair=False)
    if not worker.up:
        if budget.restarts:
            new = Worker(worker.counter + 1, worker.counter + 1)
            yield Step(f"{who} restarts", state.with_worker(number, new).spend("restarts"))
        return
    cut = worker._replace(connected=False, unconfirmed=False, inbox=frozenset())
    if game.world.sure_cuts and not worker.was_cut and _missed(state.contents, worker):
        yield Step(f"{who} is cut off", state.with_worker(number, cut._replace(was_cut=True)))
    if budget.cuts and worker.connected and worker.holds:
        yield Step(f"{who} is cut off", state.with_worker(number, cut).spend("cuts"), fair=False)
    if budget.worker_crashes and worker.holds:
        dead = Worker(worker.incarnation, worker.counter, up=False, connected=False, beating=False)
        yield Step(f"{who} crashes", state.with_worker(number, dead).spend("worker_crashes"), fair=False)
    if budget.missed_beats and worker.beating and worker.holds:
        silent = worker._replace(beating=False)
        yield Step(f"{who} misses beats", state.with_worker(number, silent).spend("missed_beats"), fair=False)
    if not worker.beating:
        yield Step(f"{who} beats again", state.with_worker(number, _beat(worker)))


def _missed(contents: Contents, worker: Worker) -> bool:
    """Whether it holds, and has subscribed to, something that is told and has not heard of it."""
    held = (one for one in worker.holds if one.subscribed and one.phase < Phase.ENDING)
    return any(one.execution_id in contents.intent and not one.applied and one.early is None for one in held)


def _beat(worker: Worker) -> Worker:
    """`Heartbeat.beat`: a counter above its incarnation fences it (`Listener.fence`)."""
    if worker.counter == worker.incarnation:
        return worker._replace(beating=True)
    for hold in worker.holds:
        if hold.phase is not Phase.ENDING:
            hold = hold._replace(told=True, superseded=True)
            worker = say(worker, hold, "received") if hold.start else worker.with_hold(hold)
    return worker._replace(fenced=True, beating=True)
