"""What stands in Redis, as a value: canonical, hashable, and parsed by the production records.

Canonical means that what no script compares is made equal: every stamp is one constant, the log is left out, and an
attempt beyond the second is the second. The counters `epoch`, `v` and `fence` are "1": who has seen which value is kept
by the processes of the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from broker.cancel.tree import forest_of
from broker.cancel.walk import depths
from broker.protocol.records import AckRecord, ExecutionRecord, IntentRecord, OperationRecord
from broker.protocol.states import Scope
from broker.store.reads import is_below

RUN = "R"
STAMP = "1900000000000000"
"""The time of everything: 2030, so that `keep_run` never finds a run stale."""
EARLIER = "1000000000000000"
"""When the status of an execution was last said: what is said next is always news."""
LONG_AGO = "1"
"""When an event said it that is delivered again."""
FREE, LEASED = "0", "4000000000000000"
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Contents:
    """The keys of the run and the work list. Two that are equal answer every script alike."""

    run: Pairs = ()
    gates: Pairs = ()
    cancels: Pairs = ()
    executions: Pairs = ()
    workers: Pairs = ()
    missing: tuple[str, ...] = ()
    intents: Pairs = ()
    acks: Pairs = ()
    unsettled: tuple[str, ...] = ()
    open_cancels: tuple[str, ...] = ()
    work_list: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.run, self.gates, self.cancels, self.executions, self.intents, self.acks, self.unsettled))

    @cached_property
    def records(self) -> dict[str, ExecutionRecord]:
        return {one: ExecutionRecord.parse(raw) for one, raw in self.executions}

    @cached_property
    def intent(self) -> dict[str, IntentRecord]:
        return {one: IntentRecord.parse(raw) for one, raw in self.intents}

    @cached_property
    def ack(self) -> dict[str, AckRecord]:
        return {one: AckRecord.parse(raw) for one, raw in self.acks}

    @cached_property
    def operations(self) -> dict[str, OperationRecord]:
        return {one: OperationRecord.parse(one, raw) for one, raw in self.cancels}

    @cached_property
    def gate(self) -> dict[str, str]:
        return dict(self.gates)

    @cached_property
    def parents(self) -> dict[str, str]:
        return {one: record.parent_execution_id for one, record in self.records.items()}

    @cached_property
    def depths(self) -> dict[str, int]:
        return depths(forest_of(self.records))

    @cached_property
    def epoch(self) -> str:
        return dict(self.run).get("epoch", "0")

    @cached_property
    def worker_of_slot(self) -> dict[str, str]:
        return {slot: one for slot, one in self.workers if slot[0] != "="}

    def in_scope(self, execution_id: str, operation: OperationRecord) -> bool:
        """By the recorded tree, as `Reads.in_scope`."""
        if operation.scope is Scope.RUN:
            return True
        if operation.scope is Scope.EXECUTION:
            return execution_id == operation.target
        return is_below(execution_id, operation.target, self.parents)

    def covered_by_gate(self, execution_id: str) -> bool:
        """Whether a closed gate of the run or of a subtree stands over it."""
        if "*" in self.gate:
            return True
        targets = [one for one in self.gate if one[0] not in "*=#"]
        return any(is_below(execution_id, target, self.parents) for target in targets)


def canonical_run(fields: dict[str, str]) -> Pairs:
    kept = {"active": fields.get("active", "0"), "expires_at_ms": "4000000000000", "last_activity_ms": "4000000000000"}
    if "epoch" in fields:
        kept["epoch"] = "1"
    return tuple(sorted(kept.items()))


def canonical_operation(raw: str, now_us: int) -> str:
    fields = json.loads(raw)
    for name in ("requested_at_us", "deadline_us", "give_up_us"):
        fields[name] = STAMP
    fields["settled_at_us"] = fields["settled_at_us"] and STAMP
    fields["settle_after_us"] = LEASED if int(fields["settle_after_us"]) > now_us + 1_000_000 else FREE
    fields["v"], fields["fence"], fields["driver"] = "1", "1", "d"
    fields["lease_until_us"] = LEASED if int(fields["lease_until_us"]) > now_us + 1_000_000 else FREE
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def canonical_execution(raw: str) -> str:
    record = ExecutionRecord.parse(raw)
    started, mark = record.started_at_us and STAMP, record.stamp.lstrip("0123456789,")
    stamp = record.stamp and EARLIER + mark
    return "|".join(record._replace(started_at_us=started, registered_at_us=STAMP, stamp=stamp))


def canonical_intent(raw: str) -> str:
    cancel_id, _, attempt, start, force, _ = raw.split("|")
    return "|".join((cancel_id, STAMP, str(min(int(attempt), 2)), start, force, ""))


def canonical_ack(raw: str) -> str:
    ack = AckRecord.parse(raw)
    return "|".join(
        ack._replace(received_at_us=ack.received_at_us and STAMP, settled_at_us=ack.settled_at_us and STAMP, detail="")
    )
