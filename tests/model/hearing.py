"""How a worker hears (worker/intents.py, ghosts.py): push, reconcile, poll; and what it does with an intent."""

from __future__ import annotations

from collections.abc import Iterator

from broker.errors import CancelCause
from broker.protocol.records import IntentRecord
from broker.worker.held import Held
from tests.model.contents import RUN, Contents
from tests.model.game import Game, worker_id
from tests.model.state import Hold, Phase, Said, State, Step, Worker

HEARD = ("received", "refused")
SEQ_LIMIT = 2
"""A repeat is acked again, without news: one such ack stands for all."""


def hearing_steps(game: Game, state: State, number: int) -> Iterator[Step]:
    """Messages, confirmations and polls of the worker."""
    worker, who = state.workers[number], worker_id(number)
    if not worker.up:
        return
    for one in worker.inbox:
        heard = worker._replace(inbox=worker.inbox - {one})
        if state.budget.drops:
            yield Step(f"{who}: message to {one} dropped", state.with_worker(number, heard).spend("drops"), fair=False)
        yield Step(f"{who} hears {one}", state.with_worker(number, look(game, state.contents, heard, {one})))
    if not worker.connected:
        back = worker._replace(connected=True, unconfirmed=True)
        yield Step(f"{who} reconnects", state.with_worker(number, back))
    if worker.unconfirmed:
        yield Step(f"{who} is confirmed again", state.with_worker(number, _on_confirmed(game, state.contents, worker)))
    if "poll" in game.world.paths and any(not one.remote for one in worker.holds):
        yield from _poll(game, state, number)
    if "ask" in game.world.paths:
        named = frozenset(one.execution_id for one in worker.holds if one.remote and one.start)
        yield Step(f"{who} asks", state.with_worker(number, _read(game, state.contents, worker, named)))


def _on_confirmed(game: Game, contents: Contents, worker: Worker) -> Worker:
    """`Listener._on_confirmed`: a repeated confirmation means a gap."""
    again = {one.execution_id for one in worker.holds if one.subscribed}
    worker = worker._replace(unconfirmed=False)
    if again:
        polled = worker.polled and (False, worker.polled[1])
        worker = worker._replace(fresh=contents.epoch == "0", polled=polled)
    return look(game, contents, worker, again) if "reconcile" in game.world.paths else worker


def _poll(game: Game, state: State, number: int) -> Iterator[Step]:
    """`Intents.poll`: the epoch is read *before* the intents, so what falls between is found by the next one."""
    worker, who = state.workers[number], worker_id(number)
    if worker.polled is None:
        if not worker.fresh:
            early = not game.off("held_early")
            held = frozenset(one.execution_id for one in worker.holds if not one.remote and (early or one.start))
            if game.off("epoch_first"):
                worker = _read(game, state.contents, worker, held)
            yield Step(f"{who} polls", state.with_worker(number, worker._replace(polled=(True, held))))
        return
    fresh, held = worker.polled
    if game.off("epoch_first"):
        fresh = True
    else:
        starting = any(one.start == 0 and not one.by_event for one in worker.holds if one.execution_id in held)
        fresh = fresh and (not starting or game.off("starting_unseen"))
        worker = _read(game, state.contents, worker, held)
    yield Step(f"{who} reads", state.with_worker(number, worker._replace(polled=None, fresh=fresh)))


def _read(game: Game, contents: Contents, worker: Worker, held: frozenset[str]) -> Worker:
    """Intents, then claims (`Ghosts.look`): a newer one ends ours; a closed one is told that it lives."""
    worker = look(game, contents, worker, held)
    for hold in worker.holds:
        record = contents.records.get(hold.execution_id)
        if hold.execution_id not in held or record is None or hold.start == 0 or hold.phase is Phase.ENDING:
            continue
        if int(record.start) > hold.start and not game.off("start_numbers"):
            worker = worker.with_hold(hold._replace(told=True, superseded=True))
        elif not record.claimed and not hold.remote and hold.seq < SEQ_LIMIT:
            worker = say(worker, hold, "received")
    return worker


def look(game: Game, contents: Contents, worker: Worker, execution_ids: set[str] | frozenset[str]) -> Worker:
    """`Intents._read`."""
    for one in execution_ids:
        hold, intent = worker.hold(one), contents.intent.get(one)
        if hold is not None and intent is not None:
            worker = apply(game, worker, hold, intent)
    return worker


def apply(game: Game, worker: Worker, hold: Hold, intent: IntentRecord) -> Worker:
    """`Intents._apply`: once to the body; a repeat is acked again."""
    execution = game.world.execution(hold.execution_id)
    if hold.start == 0 and not hold.by_event:
        return worker if game.off("held_early") else worker.with_hold(hold._replace(early=intent))
    if hold.phase is Phase.ENDING or intent.start not in (0, hold.start):
        return worker
    taken, applied = _take(game, hold, intent)
    if not taken:
        return worker if hold.seq >= SEQ_LIMIT else say(worker, hold, "received")
    hold = hold._replace(applied=applied, interrupted=hold.forced and not intent.force)
    if execution.refuses and not intent.force:
        return say(worker, hold, "refused")
    told = hold._replace(told=True, forced=hold.forced or intent.force)
    return worker.with_hold(told) if hold.by_event else say(worker, told, "received")


def _take(game: Game, hold: Hold, intent: IntentRecord) -> tuple[bool, frozenset[tuple[int, str, bool]]]:
    """Production's own `Held.take`."""
    held = Held(RUN, hold.execution_id, "", "", _fire, start=hold.start, applied=frozenset(hold.applied))
    if game.off("force_dedupe"):
        held.applied -= {(hold.start, intent.cancel_id, True)}
    taken = held.take(intent)
    return taken, held.applied | hold.applied


def _fire(cause: CancelCause, force: bool) -> None:
    raise AssertionError("the model delivers by itself")


def say(worker: Worker, hold: Hold, disposition: str) -> Worker:
    hold = hold._replace(seq=hold.seq + 1)
    said = Said(hold.execution_id, hold.start, hold.seq, disposition)
    return worker.with_hold(hold)._replace(outbox=worker.outbox | {said})
