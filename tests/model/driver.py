"""What a driver process can do next: `Engine.cancel` step by step, and `Settler`. Free ones sweep (sweep.py)."""

from __future__ import annotations

from collections.abc import Iterator

from broker.cancel.tree import forest_of
from broker.cancel.walk import walk
from broker.protocol.records import OperationRecord
from broker.protocol.states import Scope
from broker.store.operations import CancelTerms
from tests.model.contents import FREE, LEASED, RUN, Contents
from tests.model.game import Game, cancel_id
from tests.model.state import Driver, Stage, State, Step

LIVE_LEASE_US = "5000000"


def driver_steps(game: Game, state: State, number: int) -> Iterator[Step]:
    """Everything that the process may do."""
    driver = state.drivers[number]
    if driver.stage is Stage.IDLE:
        yield from _ask(game, state, number)
        return
    who = f"d{number} {cancel_id(driver.asked)}"
    yield Step(f"{who} {driver.stage.name.lower()} →", _go_on(game, state, number))
    if state.budget.driver_crashes:
        crashed = state.with_driver(number, Driver()).spend("driver_crashes")
        yield Step(f"{who} crashes when {driver.stage.name.lower()}", crashed, fair=False)


# --- list → gate ----------------------------------------------------------------------------------


def _ask(game: Game, state: State, number: int) -> Iterator[Step]:
    """`Engine._list_and_gate`, first half. Each cancel is asked for once, by any free process."""
    for place, asked in enumerate(game.world.asked):
        accepted = {int(one[1:]) for one in state.contents.operations}
        if place in state.asked or not set(asked.needs) <= accepted:
            continue
        after = state._replace(asked=state.asked | {place})
        if not game.off("list_first"):
            after = game.enlist(after, entry_of(game, place))
        after = after.with_driver(number, Driver(Stage.LISTED, place))
        yield Step(f"d{number} lists {cancel_id(place)}", after, fair=False)


def entry_of(game: Game, asked: int) -> str:
    return RUN if game.off("entry_per_operation") else f"{RUN}|{cancel_id(asked)}"


def _go_on(game: Game, state: State, number: int) -> State:
    """The one next step of a process that drives an operation."""
    return {
        Stage.LISTED: _gate,
        Stage.OPENED: _begin,
        Stage.BEGUN: _load,
        Stage.LOADED: _publish,
        Stage.SETTLING: _see,
        Stage.SEEN: _read,
        Stage.CLEAR: _settle,
        Stage.LEAVING: leave,
    }[state.drivers[number].stage](game, state, number)


def _gate(game: Game, state: State, number: int) -> State:
    """`Operations.open`."""
    driver = state.drivers[number]
    asked = game.world.asked[driver.asked]
    if game.off("gate_first") and not driver.todo:
        return _load_before_gate(game, state, number)
    terms = CancelTerms(asked.scope, asked.target)
    state, (code, *_) = game.on_run(
        state, "open_cancel", cancel_id=cancel_id(driver.asked), scope=asked.scope, target=asked.target,
        terms=terms.to_json(), client_key="", listed_at_us=_now(), allow_unknown="0", driver="d",
        lease_us=LIVE_LEASE_US,
    )  # fmt: skip
    if code != "opened":
        return game.drop(state, entry_of(game, driver.asked)).with_driver(number, Driver())
    # Who opened it need not begin the walk: the script that closed the gate wrote `walking`, and not dirty.
    follows = not (game.off("list_first") or driver.todo)
    return state.with_driver(number, driver._replace(stage=Stage.BEGUN if follows else Stage.OPENED))


def _now() -> str:
    """Just listed, whenever the script looks: the 30 s are not the model's."""
    return LEASED


# --- load → walk → publish ------------------------------------------------------------------------


def _begin(game: Game, state: State, number: int) -> State:
    """`Engine._begin_walk` of whoever took it over, or has to walk again: clears dirty before the read."""
    driver = state.drivers[number]
    if game.off("list_first"):
        state = game.enlist(state, entry_of(game, driver.asked))
    if game.off("gate_first") and driver.todo:
        return state.with_driver(number, driver._replace(stage=Stage.LOADED))
    if game.off("clear_before_read"):
        todo = _order(state.contents, state.contents.operations[cancel_id(driver.asked)])
        return state.with_driver(number, driver._replace(stage=Stage.BEGUN, todo=todo, read_first=True))
    return _clear(game, state, number, driver._replace(stage=Stage.BEGUN))


def _clear(game: Game, state: State, number: int, after: Driver) -> State:
    state, (code, *_) = drive(game, state, after, "begin_walk")
    return state.with_driver(number, after._replace(fresh=True) if code == "walking" else Driver())


def _load(game: Game, state: State, number: int) -> State:
    """`Survey.load`, and the order of the walk."""
    driver = state.drivers[number]
    if game.off("clear_before_read") and driver.read_first:
        return _clear(game, state, number, driver._replace(stage=Stage.LOADED, read_first=False))
    todo = _order(state.contents, state.contents.operations[cancel_id(driver.asked)])
    return state.with_driver(number, driver._replace(stage=Stage.LOADED, todo=todo))


def _load_before_gate(game: Game, state: State, number: int) -> State:
    driver, asked = state.drivers[number], game.world.asked[state.drivers[number].asked]
    todo = _walked(state.contents, asked.scope, asked.target)
    return state.with_driver(number, driver._replace(todo=todo))


def _order(contents: Contents, operation: OperationRecord) -> tuple[str, ...]:
    return _walked(contents, operation.scope, operation.target)


def _walked(contents: Contents, scope: Scope, target: str) -> tuple[str, ...]:
    if scope is Scope.EXECUTION:
        return (target,)
    levels = walk(forest_of(contents.records), target or None)
    return tuple(one for level in levels for one in level.execution_ids)


def _publish(game: Game, state: State, number: int) -> State:
    """`Publisher.publish`, a chunk of one; then `Operations.end_walk`."""
    driver = state.drivers[number]
    if not driver.todo:
        return _end_walk(game, state, number)
    if game.off("one_script"):
        if not driver.posted:
            return _post(game, state, number)
        state = state._replace(told_once=state.told_once - {driver.todo[0]})
    state, (code, *_) = drive(game, state, driver, "publish_cancels", driver.todo[0])
    stage = {"published": Stage.LOADED, "dirty": Stage.OPENED}.get(code)
    if stage is None:
        return state.with_driver(number, Driver())
    todo = driver.todo[1:] if code == "published" else ()
    return state.with_driver(number, driver._replace(stage=stage, todo=todo, posted=False))


def _post(game: Game, state: State, number: int) -> State:
    """The message in a step of its own, before the intent."""
    driver = state.drivers[number]
    after, _ = drive(game, state, driver, "publish_cancels", driver.todo[0])
    return after._replace(contents=state.contents).with_driver(number, driver._replace(posted=True))


def _end_walk(game: Game, state: State, number: int) -> State:
    driver = state.drivers[number]
    state, (code,) = drive(game, state, driver, "end_walk", summary="")
    stage = {"published": Stage.SETTLING, "dirty": Stage.OPENED}.get(code)
    after = Driver() if stage is None else driver._replace(stage=stage)
    return state.with_driver(number, after)


def drive(game: Game, state: State, driver: Driver, name: str, *repeated: str, **more: str) -> tuple[State, list[str]]:
    """A driver script: it carries the fence number."""
    fence = "1" if driver.leads else "0"
    return game.on_run(state, name, *repeated, cancel_id=cancel_id(driver.asked), fence=fence, **more)


# --- settle (cancel/settle.py) --------------------------------------------------------------------


def _see(game: Game, state: State, number: int) -> State:
    """`Settler.settle`: for a subtree `v` is read before the unsettled ones."""
    driver = state.drivers[number]
    if state.contents.operations[cancel_id(driver.asked)].scope is not Scope.SUBTREE:
        return _settle(game, state, number)
    return state.with_driver(number, driver._replace(stage=Stage.SEEN, fresh=True))


def _read(game: Game, state: State, number: int) -> State:
    driver, contents = state.drivers[number], state.contents
    operation = contents.operations[cancel_id(driver.asked)]
    found = any(waits_for(game, contents, operation, one) for one in contents.unsettled)
    return state.with_driver(number, driver._replace(stage=Stage.LEAVING if found else Stage.CLEAR))


def waits_for(game: Game, contents: Contents, operation: OperationRecord, execution_id: str) -> bool:
    """`Reads.in_scope`: whether an unsettled execution keeps the operation open."""
    if game.off("scope_settles"):
        return True
    if game.off("scope_adopts"):
        return contents.intent[execution_id].cancel_id == operation.cancel_id
    return contents.in_scope(execution_id, operation)


def _settle(game: Game, state: State, number: int) -> State:
    driver = state.drivers[number]
    state, _ = game.on_run(state, "settle", cancel_id=cancel_id(driver.asked), seen_v="1" if driver.fresh else "0")
    return state.with_driver(number, driver._replace(stage=Stage.LEAVING))


def leave(game: Game, state: State, number: int) -> State:
    """`Settler.leave`: the lease is given back. When the sweep looks next is left open: it always may."""
    driver = state.drivers[number]
    one = cancel_id(driver.asked)
    if driver.leads:
        state, _ = game.on_run(state, "lease", cancel_id=one, driver="d", fence="1", lease_us=FREE)
    if game.off("settled_stay_listed") and state.contents.operations[one].state == "settled":
        state = game.drop(state, entry_of(game, driver.asked))
    return state.with_driver(number, Driver())
