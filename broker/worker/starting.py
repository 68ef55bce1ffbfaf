"""Asking for a claim, and what is raised where it is not given: the same for every kind of worker."""

from __future__ import annotations

from broker.errors import (
    AlreadyClaimed,
    AlreadyTerminal,
    BrokerError,
    ExecutionInOtherRun,
    Fenced,
    ParentConflict,
    TreeTooDeep,
)
from broker.store.claims import Claims, Holder, Registration, StartAnswer


async def index(claims: Claims, run_id: str, execution_id: str) -> None:
    """Notes which run the execution belongs to, before it is recorded there. Raises ExecutionInOtherRun."""
    elsewhere = await claims.index(run_id, [execution_id])
    if elsewhere:
        other = elsewhere[execution_id]
        raise ExecutionInOtherRun(f"execution {execution_id} lives in run {other}; use an id of its own")


async def claim(claims: Claims, run_id: str, what: Registration, holder: Holder) -> StartAnswer:
    """A claim whose holder's heart no longer beats is superseded; a live one stays."""
    answer = await claims.start(run_id, what, holder)
    if answer.code == "already_claimed" and await claims.has_died(answer.word):
        answer = await claims.start(run_id, what, holder, supersedes=str(answer.start))
    return answer


def refusal(execution_id: str, parent_execution_id: str, answer: StartAnswer) -> BrokerError:
    """The error of an answer that is neither claimed nor cancelled."""
    if answer.code == "terminal":
        return AlreadyTerminal(execution_id, answer.word)
    if answer.code == "already_claimed":
        return AlreadyClaimed(execution_id, answer.word)
    if answer.code == "fenced":
        return Fenced(f"execution {execution_id} is held by incarnation {answer.start} of this worker id")
    if answer.code == "parent_conflict":
        return ParentConflict(f"execution {execution_id} is known under another parent than {parent_execution_id}")
    return TreeTooDeep(f"execution {execution_id} has more than 1,000 ancestors, its gates cannot be checked")
