"""Redis loses what it had acknowledged (cancel/reassert.py, worker/restore.py), and who knows something says it again.

Openers keep the terms of what is open, workers what they hold and what has ended; nobody keeps the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from broker.store.operations import Asserted, CancelTerms
from tests.model.contents import FREE, LEASED, RUN, STAMP, Contents
from tests.model.driver import entry_of
from tests.model.game import Game, cancel_id, worker_id
from tests.model.hearing import look
from tests.model.state import Driver, Phase, Stage, State, Step, Worker

LOSS, SAID_AGAIN = "loss", "said again"
ASSERTED = Asserted(int(STAMP), 15_000_000)


def loss_steps(game: Game, state: State) -> Iterator[Step]:
    """Losses, as often as the budget says, and what mends them."""
    if not game.world.budget.losses:
        return
    if state.budget.losses:
        if state.budget.saves:
            saved = state.spend("saves")._replace(saved=state.contents)
            yield Step("Redis saves", saved, fair=False)
        if state.saved is not None:
            yield Step("Redis loses what came after", _lose(state, state.saved), fair=False, verb=LOSS)
        yield Step("Redis loses everything", _lose(state, Contents()), fair=False, verb=LOSS)
    for number, worker in enumerate(state.workers):
        if worker.up and not worker.met:
            yield Step(f"{worker_id(number)} says again", _restore(game, state, number), verb=SAID_AGAIN)
    for asked in state.to_assert:
        yield Step(f"{cancel_id(asked)} is asserted again", _assert(game, state, asked), verb=SAID_AGAIN)
    heard = all(_has_said(one) for one in state.workers) or game.off("settles_after_loss")
    if heard and (early := _early(state.contents)) != state.contents:
        yield Step("the time for that is over", state._replace(contents=early))


def _has_said(worker: Worker) -> bool:
    return not worker.up or (worker.met and not any(one.before_loss for one in worker.holds))


def _early(contents: Contents) -> Contents:
    """The same when what is asserted again may settle."""
    then, now = f'"settle_after_us":"{LEASED}"', f'"settle_after_us":"{FREE}"'
    return replace(contents, cancels=tuple((one, raw.replace(then, now)) for one, raw in contents.cancels))


def _lose(state: State, kept: Contents) -> State:
    """Another server process answers: every connection is new, and no driver goes on where it was."""
    opened = {int(one[1:]) for one, operation in state.contents.operations.items() if operation.state == "open"}
    listed = {one.asked for one in state.drivers if one.stage is Stage.LISTED}  # their callers ask again
    return state._replace(
        contents=kept,
        workers=tuple(_cut_off(one) for one in state.workers),
        drivers=(Driver(),) * len(state.drivers),
        budget=state.budget._replace(losses=state.budget.losses - 1),
        asked=state.asked - listed,
        to_assert=state.to_assert | opened,
        told_once=frozenset(),
    )


def _cut_off(worker: Worker) -> Worker:
    if not worker.up:
        return worker
    under_way = (Phase.CONFIRMED, Phase.ANSWERED)
    holds = tuple(one._replace(before_loss=one.phase in under_way) for one in worker.holds)
    return worker._replace(
        connected=False, unconfirmed=False, fresh=False, polled=None, met=False, holds=holds, inbox=frozenset()
    )


def _restore(game: Game, state: State, number: int) -> State:
    """`Restorer._restore_all`: what it holds, with the intents of that; then what has ended."""
    worker = state.workers[number]._replace(met=True, fresh=False, polled=None)
    state = state.with_worker(number, worker)
    if game.off("restore"):
        return state
    for hold in worker.holds:
        if hold.start and hold.phase is not Phase.ENDING:
            state, code = _claim_again(game, state, number, hold.execution_id, hold.start)
            if code == "superseded":
                told = hold._replace(told=True, superseded=True)
                state = state.with_worker(number, state.workers[number].with_hold(told))
    held = {one.execution_id for one in worker.holds}
    state = state.with_worker(number, look(game, state.contents, state.workers[number], held))
    for execution_id, start, status, disposition in sorted(worker.ended):
        if worker.hold(execution_id) and not game.off("held_again"):
            continue
        state, _ = _claim_again(game, state, number, execution_id, start)
        state, _ = game.on_run(
            state, "finish", execution_id, str(start), status, disposition, "", worker_id=worker_id(number),
            incarnation=str(worker.incarnation),
        )  # fmt: skip
    return state


def _claim_again(game: Game, state: State, number: int, execution_id: str, start: int) -> tuple[State, str]:
    state, answer = game.on_run(
        state, "restore", execution_id, game.world.execution(execution_id).parent, "", str(start),
        worker_id=worker_id(number), incarnation=str(state.workers[number].incarnation), agent_node="",
    )  # fmt: skip
    return state, str(answer[2])


def _assert(game: Game, state: State, asked: int) -> State:
    """`Operations.assert_again`: listed, due at once, its lease free; the sweep goes on with it."""
    wanted = game.world.asked[asked]
    state = state._replace(to_assert=state.to_assert - {asked}, asserted=state.asserted | {asked})
    state = game.enlist(state, entry_of(game, asked))
    terms = CancelTerms(wanted.scope, wanted.target).to_json(ASSERTED)
    state, _ = game.on_run(
        state, "open_cancel", run_id=RUN, cancel_id=cancel_id(asked), scope=wanted.scope, target=wanted.target,
        terms=terms, client_key="", listed_at_us=LEASED, allow_unknown="0", driver="d", lease_us="0",
    )  # fmt: skip
    return state
