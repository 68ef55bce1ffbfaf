"""What must hold: after every step, in every state, and in every fair end. Mutants break them by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from broker.cancel.report import build_report, disposition_of, evidence_of
from broker.cancel.tally import Tally
from broker.protocol.records import ExecutionRecord, OperationRecord, Rows
from broker.protocol.states import Disposition, Status, is_terminal, normalise
from tests.model.contents import RUN, STAMP, Contents
from tests.model.game import Game
from tests.model.losses import LOSS, SAID_AGAIN
from tests.model.state import Broken, Hold, Phase, State, Step

# --- after a step ---------------------------------------------------------------------------------


def check_step(before: State, step: Step) -> None:
    """Raises Broken where the step did what no step may do."""
    after = step.state
    if step.verb == LOSS:
        return
    if step.verb in ("claimed", "refused"):
        _check_start(after.contents, step)
    if step.verb == "claimed":
        _check_sole_claim(before, step.execution_id, after.contents)
    if after.contents is not before.contents and after.contents != before.contents:
        _check_ranks(before.contents, after.contents, step)
        _check_terminal(before.contents, after.contents)
        _check_evidence(before, after, step)
        _check_end(before.contents, after.contents, step)


def _check_start(contents: Contents, step: Step) -> None:
    one = step.execution_id
    name = "no_start_under_closed_run_gate_without_intent"
    if step.verb == "claimed" and (contents.covered_by_gate(one) or one in contents.intent):
        raise Broken(name, f"{one} was claimed although a cancel stands against it")
    if step.verb == "refused" and _had_not_begun(contents.records[one]) and one not in contents.intent:
        raise Broken(name, f"{one} was refused and no intent says so")


def _check_sole_claim(before: State, execution_id: str, after: Contents) -> None:
    record = before.contents.records.get(execution_id)
    if record is None or not record.claimed or after.records[execution_id].start == record.start:
        return
    number = int(before.contents.worker_of_slot[record.slot][1:])
    if before.workers[number].beating and str(before.workers[number].incarnation) == record.incarnation:
        raise Broken("one_claim_at_a_time", f"{execution_id} is claimed again, w{number} holds it and its heart beats")


def _check_ranks(before: Contents, after: Contents, step: Step) -> None:
    for one, ack in before.ack.items():
        was, now = disposition_of(ack), disposition_of(after.ack.get(one))
        unproved = was is Disposition.ENDED_ITSELF and ack.slot == ""  # an end that no holder has reported
        if now.rank < was.rank and not ((was.replaceable or unproved) and step.verb in ("event", "ack", SAID_AGAIN)):
            raise Broken("rank_never_falls", f"{one} was {was} and is {now}")


def _check_terminal(before: Contents, after: Contents) -> None:
    for one, record in before.records.items():
        if is_terminal(record.status) and after.records[one].status != record.status:
            raise Broken("terminal_never_overwritten", f"{one} was {record.status}, is {after.records[one].status}")


def _check_evidence(before: State, after: State, step: Step) -> None:
    for one, ack in after.contents.ack.items():
        now = disposition_of(ack)
        if not now.settled or disposition_of(before.contents.ack.get(one)) is now:
            continue
        if not _is_proved(before, one, now, step):
            raise Broken("settled_implies_evidence", f"{one} is {now} after {step.name}")


def _is_proved(before: State, execution_id: str, disposition: Disposition, step: Step) -> bool:
    """Whether this step may say so of it."""
    if disposition is Disposition.NEVER_STARTED:
        told = execution_id in before.contents.intent
        return not told and _had_not_begun(before.contents.records.get(execution_id))
    if disposition is Disposition.LOST:
        return _is_proved_lost(before, execution_id)
    if step.verb == SAID_AGAIN:
        return any(one[0] == execution_id for worker in before.workers for one in worker.ended)
    said_by = ("finish", "event") if disposition is Disposition.ENDED_ITSELF else ("finish",)
    return step.execution_id == execution_id and step.verb in said_by


def _is_proved_lost(state: State, execution_id: str) -> bool:
    """Its process is replaced or declared dead, or it lives and does not hold it."""
    record = state.contents.records[execution_id]
    holder = state.workers[int(state.contents.worker_of_slot[record.slot][1:])]
    return int(record.incarnation) < holder.counter or holder.hold(execution_id) is None


def _had_not_begun(record: ExecutionRecord | None) -> bool:
    if record is None:
        return True
    said_to_run = record.seen_to_run or normalise(record.status) in (Status.RUNNING, Status.UNKNOWN)
    return not record.claimed and not said_to_run


def _check_end(before: Contents, after: Contents, step: Step) -> None:
    record = before.records.get(step.execution_id)
    if step.verb != "finish" or record is None or is_terminal(record.status):
        return
    status = after.records[step.execution_id].status
    if status in ("failed", "timeout", "queued") and after.covered_by_gate(step.execution_id):
        raise Broken("no_failure_under_a_gate", f"{step.execution_id} is {status}: it ended because of a cancel")


# --- in every state -------------------------------------------------------------------------------


def check_state(game: Game, state: State) -> None:
    """Raises Broken where a claim of the broker is wrong now."""
    running = dict(_running(state))
    unmet = {hold.execution_id for one in state.workers for hold in one.holds if not one.met or hold.before_loss}
    for operation in state.contents.operations.values():
        reported = _still_running(state.contents, operation)
        for one, who in running.items():
            if not state.contents.in_scope(one, operation):
                continue
            waited = one not in unmet or int(operation.cancel_id[1:]) in state.asserted
            if operation.state == "settled" and waited:
                detail = f"{operation.cancel_id} is settled, {one} runs on {who}"
                raise Broken("never_settled_while_covered_body_runs", detail)
            if one not in reported and one not in unmet:
                detail = f"{one} runs on {who}, {operation.cancel_id} does not name it"
                raise Broken("nothing_missing_from_the_report", detail)
    if any(hold.interrupted for worker in state.workers for hold in worker.holds):
        raise Broken("forced_cleanup_is_not_interrupted", "a cooperative cancel came after a forced one")


def _running(state: State) -> Iterator[tuple[str, str]]:
    """Bodies that run, or will with an answer that is under way.

    Not of a claim that was superseded, not of a process that was declared dead by mistake: the named exceptions.
    """
    for number, worker in enumerate(state.workers):
        if worker.counter > worker.incarnation:
            continue
        for hold in worker.holds:
            if _is_current(state.contents, hold):
                yield hold.execution_id, f"w{number}"
    for one in state.foreign:
        yield one, "a worker that started it by event"


def _is_current(contents: Contents, hold: Hold) -> bool:
    if hold.phase not in (Phase.ANSWERED, Phase.RUNNING) or not max(hold.start, hold.answer):
        return False
    record = contents.records.get(hold.execution_id)
    return record is None or max(hold.start, hold.answer) >= int(record.start)


@lru_cache(maxsize=20_000)
def _still_running(contents: Contents, operation: OperationRecord) -> frozenset[str]:
    """What production's report names."""
    executions = {one: raw for one, raw in contents.executions if contents.in_scope(one, operation)}
    intents, acks = dict(contents.intents), dict(contents.acks)
    tally = Tally(operation)
    ids, raw = list(executions), list(executions.values())
    tally.add(Rows(ids, raw, [*map(intents.get, ids)], [*map(acks.get, ids)]))
    evidence = evidence_of(tally, contents.depths, contents.worker_of_slot, {}, int(STAMP), {})
    return frozenset(one.execution_id for one in build_report(RUN, operation, tally, evidence).still_running)


# --- in a fair end --------------------------------------------------------------------------------


def check_end(game: Game, state: State) -> None:
    """Raises Broken where nothing is left to happen and something is not as it must be."""
    for number, worker in enumerate(state.workers):
        for hold in worker.holds:
            _check_told(state.contents, number, hold)
    for operation in state.contents.operations.values():
        _check_settled(game, state, operation)


def _check_told(contents: Contents, number: int, hold: Hold) -> None:
    one = hold.execution_id
    if hold.phase is not Phase.RUNNING:
        return
    intent = contents.intent.get(one)
    cancelled = contents.covered_by_gate(one) or f"={one}" in contents.gate or intent is not None
    slot = contents.records[one].slot if one in contents.records else ""
    superseded = hold.start > 0 and slot != "" and contents.worker_of_slot[slot] != f"w{number}"
    if (cancelled or superseded) and not hold.applied and not hold.told:
        why = "a newer claim has replaced it" if superseded else "it is cancelled"
        raise Broken("every_held_execution_is_told", f"{one} runs for ever although {why}")
    if intent is not None and intent.force and not hold.forced and not superseded:
        raise Broken("every_held_execution_is_told", f"{one} never hears the forced step")


def _check_settled(game: Game, state: State, operation: OperationRecord) -> None:
    if operation.state == "settled":
        return
    name, contents = "every_accepted_cancel_settles", state.contents
    if operation.phase == "walking" or operation.dirty:
        raise Broken(name, f"nobody walks {operation.cancel_id} any more")
    waits_for = [one for one in contents.unsettled if contents.in_scope(one, operation)]
    if not any(_never_ends(game, state, one) for one in waits_for):
        raise Broken(name, f"{operation.cancel_id} stays open, unsettled are {waits_for or 'none'}")


def _never_ends(game: Game, state: State, execution_id: str) -> bool:
    """Stragglers that a report rightly names for ever: refused, of a dead worker, of nobody."""
    record = state.contents.records[execution_id]
    if not record.claimed:
        return execution_id in state.foreign or record.start == "0"
    number = int(state.contents.worker_of_slot[record.slot][1:])
    holder = state.workers[number]
    unproved = not holder.up and int(record.incarnation) == holder.counter
    return unproved or game.world.execution(execution_id).refuses
