"""Pure: what was really done beside what the broker says of it → every lie and every loss, each with its execution.

`lost`: an accepted cancel that is not there, or a covered body that ran on and is in no report, or was never told.
`wrong`: the broker said that something had ended, or had never begun, and it ran then or afterwards.
`apart`: where settled may be wrong by the contract: a proof of death that was mistaken, a holder that was superseded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.chaos.facts import Execution, Operation, RunFacts
from tests.chaos.history import Body, History, run_of

Verdict = Literal["lost", "wrong", "apart"]
ENDED = frozenset({"stopped", "killed", "ended_itself"})
SETTLED = ENDED | {"never_started", "lost"}
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "timeout"})
HEARD_BUT_NOT_DELIVERED = frozenset({"refused", "deferred"})
FAIR_US = 30_000_000
"""A body that is held for this long behind an accepted cancel has to have been told, whatever the weather was."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is an execution id, or a cancel id where an operation is gone."""

    verdict: Verdict
    run_id: str
    subject: str
    text: str


def check(history: History, facts: Mapping[str, RunFacts]) -> list[Finding]:
    """All findings, each once."""
    found = [*_promises(history, facts), *_unrecorded(history, facts), *_left(history, facts)]
    settled = _settled_answers(history, facts)
    for run in facts.values():
        found += _claims(history, run)
        found += _behind_gates(history, run)
        found += _running_on(history, run)
        found += _unnamed(run)
        found += _settled_too_early(history, run, settled[run.run_id])
    return list(dict.fromkeys(found))


def _promises(history: History, facts: Mapping[str, RunFacts]) -> Iterator[Finding]:
    """An accepted cancel is there."""
    for promise in history.promises:
        run = facts.get(promise.run_id)
        if run is None or all(one.cancel_id != promise.cancel_id for one in run.operations):
            yield Finding("lost", promise.run_id, promise.cancel_id, "accepted, and there is no such operation")


def _unrecorded(history: History, facts: Mapping[str, RunFacts]) -> Iterator[Finding]:
    """A body has begun only with a claim that Redis had acknowledged."""
    for execution_id in history.bodies:
        run = facts.get(run_of(execution_id))
        if run is None or execution_id not in run.executions:
            yield Finding("lost", run_of(execution_id), execution_id, "it began, and is not recorded")


def _left(history: History, facts: Mapping[str, RunFacts]) -> Iterator[Finding]:
    """Commands that lived when everything was over."""
    for process, execution_id in history.left.items():
        run = facts.get(run_of(execution_id))
        said = run.executions[execution_id].disposition if run and execution_id in run.executions else None
        if said in ENDED:
            yield Finding("wrong", run_of(execution_id), execution_id, f"{said}, and its process {process} lives")
        elif run is None or execution_id not in run.named:
            yield Finding("lost", run_of(execution_id), execution_id, f"process {process} lives and is in no report")


# --- what is said of one execution --------------------------------------------------------------------


def _claims(history: History, run: RunFacts) -> Iterator[Finding]:
    for execution_id, said in run.executions.items():
        for body in history.bodies.get(execution_id, ()):
            verdict = _verdict(history, body, said)
            if verdict is not None:
                yield Finding(verdict[0], run.run_id, execution_id, f"{_describe(body)}: {verdict[1]}")
        starts = [body.start for body in history.bodies.get(execution_id, ())]
        if len(set(starts)) < len(starts):
            yield Finding("wrong", run.run_id, execution_id, f"two bodies of one claim: {starts}")


def _verdict(history: History, body: Body, said: Execution) -> tuple[Verdict, str] | None:
    """Whether what was said of the execution is a lie about this body."""
    if said.disposition not in SETTLED or said.settled_us is None:
        return None
    claim = f"{said.disposition} of start {said.acked_start} at {said.settled_us / 1e6:.6f}"
    if said.disposition == "never_started":
        return "wrong", claim
    if body.ended_us <= said.settled_us:
        return None
    if _is_superseded(body, said):
        return "apart", f"superseded; {claim}"
    if said.disposition == "lost":
        return ("apart" if _mistaken(history, body, said, said.settled_us) else "wrong"), claim
    return "wrong", claim


def _is_superseded(body: Body, said: Execution) -> bool:
    """A newer claim has replaced that of this body (of a command the number is not known)."""
    return body.start < said.start if body.start else said.start > 1


def _mistaken(history: History, body: Body, said: Execution, at_us: float) -> bool:
    """Its process was taken for dead; or it is a command whose worker has died, and which is being ended."""
    return history.was_replaced(body, at_us) or (body.start == 0 and said.disposition == "lost")


# --- what is said of operations -----------------------------------------------------------------------


def _covers(run: RunFacts, operation: Operation, execution_id: str, known_us: float = math.inf) -> bool:
    """The tree decides, as far as it was known at that time (a parent not yet reported covers nothing).

    What one script call recorded has one stamp: a parent of the same stamp may have come after its child.
    """
    if operation.scope == "run":
        return True
    if operation.scope == "execution":
        return execution_id == operation.target
    seen: set[str] = set()
    while execution_id and execution_id not in seen:
        if execution_id == operation.target:
            return True
        seen.add(execution_id)
        record = run.executions.get(execution_id)
        if record is None or record.registered_us > known_us or (len(seen) > 1 and record.registered_us == known_us):
            return False
        execution_id = record.parent
    return False


def _covering(run: RunFacts, execution_id: str) -> list[Operation]:
    return [one for one in run.operations if _covers(run, one, execution_id)]


def _settled_answers(history: History, facts: Mapping[str, RunFacts]) -> defaultdict[str, list[tuple[Operation, int]]]:
    """Every time at which an operation was said to be settled: in the end, to whoever waited, and in the audit log.

    So what was taken back by later evidence counts, too.
    """
    found: defaultdict[str, list[tuple[Operation, int]]] = defaultdict(list)
    by_id = {one.cancel_id: one for run in facts.values() for one in run.operations}
    for run in facts.values():
        found[run.run_id] += [(one, one.settled_us) for one in run.operations if one.settled_us]
        found[run.run_id] += [(by_id[one], at_us) for one, at_us in _logged(run) if one in by_id]
    for promise in history.promises:
        if promise.settled_us and promise.cancel_id in by_id:
            found[promise.run_id].append((by_id[promise.cancel_id], promise.settled_us))
    return found


def _logged(run: RunFacts) -> Iterator[tuple[str, int]]:
    """`settled` entries of the audit log: cancel id and stamp."""
    for entry in run.log:
        words = entry.split()
        if words[1:4:2] == ["event", "cancel_id"] and words[2] == "settled":
            yield words[4], int(words[6])


def _settled_too_early(history: History, run: RunFacts, settled: list[tuple[Operation, int]]) -> Iterator[Finding]:
    for operation, at_us in settled:
        for execution_id, said in run.executions.items():
            for body in history.bodies.get(execution_id, ()):
                if body.ran_at(at_us) and _covers(run, operation, execution_id, at_us):
                    excused = _is_superseded(body, said) or _mistaken(history, body, said, at_us)
                    text = f"{_describe(body)}: {operation.cancel_id} was settled at {at_us / 1e6:.6f}"
                    yield Finding("apart" if excused else "wrong", run.run_id, execution_id, text)


def _behind_gates(history: History, run: RunFacts) -> Iterator[Finding]:
    """The claim of a body is older than every gate that covers it. A cancel of one execution closes none."""
    for execution_id, said in run.executions.items():
        for body in history.bodies.get(execution_id, ()):
            gates = [one for one in run.operations if one.scope != "execution" and body.start == said.start]
            for operation in gates:
                if said.started_us > operation.requested_us and _covers(run, operation, execution_id, said.started_us):
                    text = f"{_describe(body)}: claimed behind the gate of {operation.cancel_id}"
                    yield Finding("lost", run.run_id, execution_id, text)


def _running_on(history: History, run: RunFacts) -> Iterator[Finding]:
    """Whoever was held for long behind an accepted cancel was told; whoever still runs is in a report."""
    for execution_id, said in run.executions.items():
        for body in history.bodies.get(execution_id, ()):
            if body.start == 0:
                continue
            for operation in _covering(run, execution_id):
                since_us = max(operation.requested_us, body.began_us)
                told = body.saw_us is not None or said.disposition in HEARD_BUT_NOT_DELIVERED
                for_us = body.ended_us - since_us
                if not told and for_us > FAIR_US and said.disposition not in SETTLED and "died" not in body.how:
                    text = f"{_describe(body)}: never told of {operation.cancel_id}"
                    yield Finding("lost", run.run_id, execution_id, text)
                elif math.isinf(body.ended_us) and said.disposition is None:
                    text = f"{_describe(body)}: runs on under {operation.cancel_id}, which has told it nothing"
                    yield Finding("lost", run.run_id, execution_id, text)


def _unnamed(run: RunFacts) -> Iterator[Finding]:
    """What is covered and has not ended stands in a report, whether it lives or not."""
    for execution_id, said in run.executions.items():
        if execution_id in run.named or not _covering(run, execution_id):
            continue
        if said.disposition is None and said.status not in TERMINAL:
            yield Finding("lost", run.run_id, execution_id, f"{said.status}, covered, and in no report")
        if said.disposition is not None and said.disposition not in SETTLED:
            yield Finding("lost", run.run_id, execution_id, f"{said.disposition}, not settled, and in no report")


def _describe(body: Body) -> str:
    ended = "runs on" if math.isinf(body.ended_us) else f"{body.ended_us / 1e6:.6f} {body.how}"
    return f"body of start {body.start} in {body.where} from {body.began_us / 1e6:.6f} to {ended}"
