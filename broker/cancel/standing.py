"""How open operations stand: what is outstanding of each, and whether it is overdue."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from broker.protocol.records import IntentRecord, OperationRecord
from broker.protocol.states import Scope
from broker.store.reads import Reads, Waiting

LOOKED_AT = 1_000
"""Stragglers of a run that are looked at one by one, where nobody needs them all: those that wait longest."""
BUDGET = 10_000
"""And of all runs of one answer together."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one operation. `waiting` names its stragglers, longest waiting first: those that were looked at.

    `outstanding` counts them all; of a subtree all that were looked at.
    """

    outstanding: int
    overdue: bool
    waiting: Sequence[str]


def share_of(runs: int) -> int:
    """How many stragglers of each of so many runs are looked at."""
    return max(1, min(LOOKED_AT, BUDGET // max(1, runs)))


async def standing_of(
    reads: Reads,
    run_id: str,
    operations: Sequence[OperationRecord],
    now_us: int,
    look_at: int | None = None,
    waiting: Waiting | None = None,
) -> Mapping[str, Standing]:
    """Cancel id → how it stands; `operations` are all that are open in the run. Without `look_at`, `outstanding`
    is exact. Where `waiting` is given, nobody wants the names, and they are read only where they decide.

    An execution is late by the earlier deadline, of the operation that covers it or of that which told it, as in
    the report: adopting what another has told buys no time (trap T21).
    """
    number = (waiting or await reads.waiting(run_id)).number
    if not number:
        return {one.cancel_id: Standing(0, False, ()) for one in operations}
    late = {one.cancel_id for one in operations if now_us > one.deadline_us}
    told_by_others = 0 < len(late) < len(operations)
    subtrees = any(one.scope is Scope.SUBTREE for one in operations)
    looked_at: Sequence[str] = ()
    if subtrees and look_at is None:
        looked_at = await reads.unsettled(run_id)
    elif waiting is None or subtrees or told_by_others:
        looked_at = await reads.longest_waiting(run_id, look_at or LOOKED_AT)
    targets = await reads.still_unsettled(run_id, [one.target for one in operations if one.scope is Scope.EXECUTION])
    parents = await reads.ancestors(run_id, looked_at) if subtrees else {}
    intents = await reads.some_intents(run_id, [*looked_at, *targets]) if told_by_others else {}
    below = _below([one.target for one in operations if one.scope is Scope.SUBTREE], looked_at, parents)
    found: dict[str, Standing] = {}
    for one in operations:
        narrow = [one.target] if one.target in targets else ()
        inside = {Scope.RUN: looked_at, Scope.EXECUTION: narrow}.get(one.scope, below.get(one.target, ()))
        outstanding = number if one.scope is Scope.RUN else len(inside)
        overdue = outstanding > 0 and (one.cancel_id in late or _any_told_by(late, inside, intents))
        found[one.cancel_id] = Standing(outstanding, overdue, inside)
    return found


def _below(
    targets: Collection[str], looked_at: Sequence[str], parents: Mapping[str, str]
) -> Mapping[str, Sequence[str]]:
    """Those that each target has below it, or is: one climb for each, however many subtrees there are."""
    found: dict[str, list[str]] = {target: [] for target in targets}
    for one in looked_at:
        seen: set[str] = set()
        above = one
        while above and above not in seen:
            if above in found:
                found[above].append(one)
            seen.add(above)
            above = parents.get(above, "")
    return found


def _any_told_by(late: Collection[str], inside: Sequence[str], intents: Mapping[str, IntentRecord]) -> bool:
    return any(one in intents and intents[one].cancel_id in late for one in inside)
