"""What a worker does with what it holds: hold, start, run, finish, ack. Each step names what it mirrors."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.game import Game, worker_id
from tests.model.hearing import HEARD, apply
from tests.model.state import Hold, Phase, Said, State, Step, Worker
from tests.model.world import Execution

NEVER_RAN = ("cancelled", "stopped")


def worker_steps(game: Game, state: State, number: int) -> Iterator[Step]:
    """Everything that the worker, its bodies and its connection may do."""
    worker = state.workers[number]
    if not worker.up:
        return
    yield from _new_holds(game, state, number)
    for hold in worker.holds:
        yield from _hold_steps(game, state, number, hold)
    for said in worker.outbox:
        yield _ack(game, state, number, said)


# --- holding (worker/listener.py, execution.py) ---------------------------------------------------


def _new_holds(game: Game, state: State, number: int) -> Iterator[Step]:
    """`Listener.hold` up to SUBSCRIBE: held from before it."""
    worker = state.workers[number]
    for place, execution in enumerate(game.world.executions):
        one = execution.execution_id
        may = number in execution.workers and state.starts[place] < execution.starts
        if worker.fenced or not may or worker.hold(one):
            continue
        if execution.spawned and not runs(state, execution.parent):
            continue
        if execution.by_event and any(other.hold(one) for other in state.workers):
            continue  # a queue gives it to one worker at a time
        starts = (*state.starts[:place], state.starts[place] + 1, *state.starts[place + 1 :])
        remote = number in execution.remote
        phase = Phase.CONFIRMED if remote else Phase.SUBSCRIBING
        held = worker.with_hold(Hold(one, phase, by_event=number in execution.by_event, remote=remote))
        after = state.with_worker(number, held)._replace(starts=starts)
        yield Step(f"{worker_id(number)} holds {one}", after, fair=False)


def runs(state: State, execution_id: str) -> bool:
    """Whether a body of it runs somewhere."""
    return any((hold := one.hold(execution_id)) and hold.phase is Phase.RUNNING for one in state.workers)


def _hold_steps(game: Game, state: State, number: int, hold: Hold) -> Iterator[Step]:
    worker, execution = state.workers[number], game.world.execution(hold.execution_id)
    who = f"{worker_id(number)} {hold.execution_id}"
    if not hold.subscribed and worker.connected and not hold.remote:
        yield Step(f"{who} confirmed", _confirm(game, state, number, hold))
    if hold.phase is Phase.CONFIRMED or (hold.phase is Phase.SUBSCRIBING and "confirm" not in game.world.paths):
        yield from _start(game, state, number, hold)
    elif hold.phase is Phase.ANSWERED:
        begun = _begin(game, worker, hold)
        yield Step(f"{who} begins", state.with_worker(number, begun._replace(met=begun.met and not hold.before_loss)))
    elif hold.phase is Phase.RUNNING:
        yield from _body(game, state, number, hold, execution)
    elif hold.phase is Phase.ENDING:
        yield from _finish(game, state, number, hold)


def _confirm(game: Game, state: State, number: int, hold: Hold) -> State:
    """The first confirmation. One that starts by event reads its intent now, and does not run if there is one."""
    worker = state.workers[number]
    if not hold.by_event:
        phase = max(hold.phase, Phase.CONFIRMED)
        return state.with_worker(number, worker.with_hold(hold._replace(phase=phase, subscribed=True)))
    if hold.execution_id in state.contents.intent:
        return state.with_worker(number, worker.without(hold.execution_id))
    return state.with_worker(number, worker.with_hold(hold._replace(phase=Phase.RUNNING, subscribed=True)))


def _start(game: Game, state: State, number: int, hold: Hold) -> Iterator[Step]:
    """`Listener._start`: a claim whose holder's heart no longer beats is superseded; a live one stays."""
    one, name = hold.execution_id, f"{worker_id(number)} starts {hold.execution_id}"
    after, (code, count, word) = _call_start(game, state, number, one, "")
    if code == "already_claimed" and not state.workers[int(word[1:])].beating:
        after, (code, count, word) = _call_start(game, after, number, one, count)
    if code == "claimed" and state.budget.lost_answers:
        yield Step(f"{name}: answer lost", after.spend("lost_answers"), fair=False, verb="claimed", execution_id=one)
    worker = after.workers[number]
    if code == "claimed":  # what an event announced without a claim is this body
        after = after._replace(foreign=after.foreign - {one})
        worker = worker.with_hold(hold._replace(phase=Phase.ANSWERED, answer=int(count)))
    elif code == "cancelled" and count != "0":
        worker = worker.with_hold(hold._replace(phase=Phase.ENDING, start=int(count), outcome=NEVER_RAN))
    else:
        worker = worker.without(one)
    verb = {"claimed": "claimed", "cancelled": "refused"}.get(code, "")
    yield Step(f"{name}: {code}", after.with_worker(number, worker), verb=verb, execution_id=one)


def _call_start(game: Game, state: State, number: int, one: str, supersedes: str) -> tuple[State, tuple[str, str, str]]:
    execution = game.world.execution(one)
    after, answer = game.on_run(
        state, "start", one, execution.parent, "", supersedes, worker_id=worker_id(number),
        incarnation=str(state.workers[number].incarnation), agent_node="",
    )  # fmt: skip
    code, count, word = answer[2:5]
    return after, (code, str(count), word)


def _begin(game: Game, worker: Worker, hold: Hold) -> Worker:
    """`Intents.begin`: what was heard before the claim was known is applied now."""
    begun = hold._replace(phase=Phase.RUNNING, start=hold.answer, early=None, before_loss=False)
    worker = worker.with_hold(begun)
    return worker if hold.early is None else apply(game, worker, begun, hold.early)


def _body(game: Game, state: State, number: int, hold: Hold, execution: Execution) -> Iterator[Step]:
    """The body ends because it was told to, or by itself (`outcome_of`)."""
    worker, who = state.workers[number], f"{worker_id(number)} {hold.execution_id}"
    if hold.by_event and not hold.announced:
        after = game.report(state, hold.execution_id, "running")
        after = after.with_worker(number, after.workers[number].with_hold(hold._replace(announced=True)))
        foreign = after.foreign | {hold.execution_id}
        yield Step(f"{who} announced", after._replace(foreign=foreign), verb="event", execution_id=hold.execution_id)
    if hold.told:
        ending = hold._replace(phase=Phase.ENDING, outcome=("cancelled", "killed" if hold.forced else "stopped"))
        yield Step(f"{who} stops", state.with_worker(number, worker.with_hold(ending)))
    for status in () if hold.by_event else execution.ends:
        ending = hold._replace(phase=Phase.ENDING, outcome=(status, "ended_itself"))
        yield Step(f"{who} ends: {status}", state.with_worker(number, worker.with_hold(ending)), fair=False)


def _finish(game: Game, state: State, number: int, hold: Hold) -> Iterator[Step]:
    """`Listener.finish`; released only when it is written down, repeated when the answer is lost."""
    one, (status, disposition) = hold.execution_id, hold.outcome
    if hold.by_event:
        after, answer = game.report(state, one, status), ["reported"]
        after = after._replace(foreign=after.foreign - {one})
    else:
        after, answer = game.on_run(
            state, "finish", one, str(hold.start), status, disposition, "", worker_id=worker_id(number),
            incarnation=str(state.workers[number].incarnation),
        )  # fmt: skip
    name = f"{worker_id(number)} finishes {one}: {answer[-1]}"
    verb = "event" if hold.by_event else "finish"
    if state.budget.lost_answers:
        yield Step(f"{name}, answer lost", after.spend("lost_answers"), fair=False, verb=verb, execution_id=one)
        twice = after.workers[number].without(one)
        twice = twice._replace(outbox=twice.outbox | {Said(one, hold.start, 0, status)})
        after_twice = after.with_worker(number, twice).spend("lost_answers")
        yield Step(f"{name}, and is on its way again", after_twice, fair=False, verb=verb, execution_id=one)
    gone = after.workers[number].without(one)
    if game.world.budget.losses:  # `Restorer.note_end`
        gone = gone._replace(ended=gone.ended | {(one, hold.start, status, disposition)})
    yield Step(name, after.with_worker(number, gone), verb=verb, execution_id=one)


def _ack(game: Game, state: State, number: int, said: Said) -> Step:
    """`Acks._send` and `_disown`: in any order, until it is accepted; or an end that is sent a second time."""
    if said.disposition not in HEARD:
        return _say_more(game, state, number, said)
    after, answer = game.on_run(
        state, "ack", said.execution_id, worker_id(number), str(state.workers[number].incarnation), str(said.start),
        str(said.seq), said.disposition, "", "",
    )  # fmt: skip
    worker = after.workers[number]
    after = after.with_worker(number, worker._replace(outbox=worker.outbox - {said}))
    name = f"{worker_id(number)} acks {said.execution_id} {said.disposition}: {answer[2]}"
    return Step(name, after, verb="ack", execution_id=said.execution_id)


def _say_more(game: Game, state: State, number: int, said: Said) -> Step:
    one, start = said.execution_id, str(said.start)
    incarnation = str(state.workers[number].incarnation)
    if said.disposition == "lost":
        after, answer = game.on_run(state, "lose", one, worker_id(number), incarnation, start, "not_held")
        verb = "ack"
    else:
        after, answer = game.on_run(
            state, "finish", one, start, said.disposition, "ended_itself", "", worker_id=worker_id(number),
            incarnation=incarnation,
        )  # fmt: skip
        verb = "finish"
    worker = after.workers[number]
    after = after.with_worker(number, worker._replace(outbox=worker.outbox - {said}))
    name = f"{worker_id(number)} says late that {one} is {said.disposition}: {answer[-1]}"
    return Step(name, after, verb=verb, execution_id=one)
