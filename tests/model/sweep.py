"""What a free driver process does with the operations on the work list (cancel/sweep.py, cancel/liveness.py)."""

from __future__ import annotations

from collections.abc import Iterator

from broker.protocol.records import OperationRecord
from tests.model.driver import LIVE_LEASE_US, drive, entry_of, leave, waits_for
from tests.model.game import Game, cancel_id
from tests.model.state import Driver, Hold, Phase, Said, Stage, State, Step, Worker


def sweep_steps(game: Game, state: State, number: int) -> Iterator[Step]:
    """`Sweep.look` at what is listed. A look that would change nothing is not taken: it ends where it began."""
    if state.drivers[number].stage is not Stage.IDLE:
        return
    for one, operation in state.contents.operations.items():
        asked = int(one[1:])
        if entry_of(game, asked) not in state.contents.work_list or game.off("takeover"):
            continue
        driven = any(other.asked == asked and other.leads for other in state.drivers)
        if driven and not state.budget.takeovers:
            continue
        stages = _what_is_due(game, state, operation)
        leased = _take_lease(game, state, asked) if stages else state
        for stage, execution_id in stages:
            after = leased.spend("takeovers") if driven else leased
            if stage is Stage.LEAVING:
                yield from _redeliver(game, after, number, asked, execution_id)
                yield from _question(game, after, execution_id)
            elif stage is Stage.SEEN:
                yield _lose(game, after, number, asked, execution_id)
            else:
                after = after.with_driver(number, Driver(stage, asked))
                yield Step(f"d{number} takes {one} over", after, fair=not driven)


def _what_is_due(game: Game, state: State, operation: OperationRecord) -> list[tuple[Stage, str]]:
    """Where the sweep goes on with an operation: a walk, settling, or telling again."""
    contents = state.contents
    if operation.state == "settled":
        return []
    if operation.phase == "walking" or operation.dirty:
        return [(Stage.OPENED, "")]
    if not any(waits_for(game, contents, operation, one) for one in contents.unsettled):
        return [(Stage.SETTLING, "")]
    unsettled = [one for one in contents.unsettled if contents.in_scope(one, operation)]
    lost = [one for one in unsettled if _proved_gone(game, state, one)]
    if lost:
        return [(Stage.SEEN, one) for one in lost]
    return [(Stage.LEAVING, one) for one in unsettled if "redeliver" in game.world.paths]


def _take_lease(game: Game, state: State, asked: int) -> State:
    """`Operations.lease` after the time of the lease: an older driver is fenced from now on."""
    state = state._replace(contents=game.expired(state.contents, cancel_id(asked)))
    state, _ = game.on_run(state, "lease", cancel_id=cancel_id(asked), driver="d", fence="", lease_us=LIVE_LEASE_US)
    drivers = tuple(one._replace(leads=False) if one.asked == asked else one for one in state.drivers)
    return state._replace(drivers=drivers)


def _redeliver(game: Game, state: State, number: int, asked: int, execution_id: str) -> Iterator[Step]:
    """`Sweep._redeliver`, at once and under the lease. What was heard is told again as often as the budget says."""
    driver, name = Driver(Stage.LEAVING, asked), f"d{number} tells {execution_id} again"
    holds = [(one, hold) for one in state.workers if (hold := one.hold(execution_id))]
    unheard = any(_is_unheard(one, hold) for one, hold in holds)
    if unheard or (holds and state.budget.again):
        after, _ = drive(game, state, driver, "redeliver", execution_id, force="0")
        after = after if unheard else after.spend("again")
        yield Step(name, leave(game, after.with_driver(number, driver), number), fair=unheard)
    if state.budget.forces:
        after, _ = drive(game, state.spend("forces"), driver, "redeliver", execution_id, force="1")
        yield Step(f"{name} with force", leave(game, after.with_driver(number, driver), number), fair=False)


def _proved_gone(game: Game, state: State, execution_id: str) -> bool:
    """`WorkerState.proof_against`: the incarnation that holds it is below the counter of its worker id."""
    record = state.contents.records[execution_id]
    if not record.claimed or (game.off("proof_is_state") and execution_id in state.lost_once):
        return False
    holder = state.workers[int(state.contents.worker_of_slot[record.slot][1:])]
    return int(record.incarnation) < holder.counter or (game.off("lost_needs_proof") and not holder.beating)


def _lose(game: Game, state: State, number: int, asked: int, execution_id: str) -> Step:
    """`Liveness.lose`, under the lease, which is given back."""
    record = state.contents.records[execution_id]
    holder = state.contents.worker_of_slot[record.slot]
    after, _ = game.on_run(state, "lose", execution_id, holder, record.incarnation, record.start, "proof")
    after = leave(game, after.with_driver(number, Driver(Stage.LEAVING, asked)), number)
    if game.off("proof_is_state"):
        after = after._replace(lost_once=after.lost_once | {execution_id})
    return Step(f"d{number} loses {execution_id}", after, verb="lose", execution_id=execution_id)


def _question(game: Game, state: State, execution_id: str) -> Iterator[Step]:
    """`Liveness.ask` and `Ghosts.asked`: a live worker that does not hold what it claimed says so."""
    record = state.contents.records[execution_id]
    if not record.claimed or execution_id in state.contents.ack:
        return
    number = int(state.contents.worker_of_slot[record.slot][1:])
    worker = state.workers[number]
    hold = worker.hold(execution_id)
    remote = number in game.world.execution(execution_id).remote  # it has no control channel
    hears = worker.beating and worker.connected and str(worker.incarnation) == record.incarnation and not remote
    if hears and (hold is None or hold.start not in (0, int(record.start))):
        gone = worker._replace(outbox=worker.outbox | {Said(execution_id, int(record.start), 0, "lost")})
        yield Step(f"w{number} does not hold {execution_id}", state.with_worker(number, gone))


def _is_unheard(worker: Worker, hold: Hold) -> bool:
    waits = hold.execution_id in worker.inbox
    ready = worker.connected and hold.subscribed and hold.phase < Phase.ENDING
    return ready and not waits and not hold.applied and hold.early is None
