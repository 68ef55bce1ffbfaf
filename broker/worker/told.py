"""What a worker without Redis is told of an execution that it holds, and whether it has answered to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broker.protocol.records import AckRecord, ExecutionRecord, IntentRecord, OperationRecord
from broker.protocol.states import Disposition
from broker.store.claims import Holder
from broker.worker.causes import cause_of

REPEAT_AFTER_S = 1.0  # the answer may have been lost; a worker that has not acked yet must not poll in circles
KEPT = 10_000  # answers remembered: an older one is at worst repeated

_NOBODYS_WORD = frozenset({Disposition.ASKED, Disposition.NEVER_STARTED, Disposition.LOST})


class RemoteHeld(NamedTuple):
    """What a worker says it holds: `run_id` is the run's key, `start` the number of its claim where it says so."""

    run_id: str
    execution_id: str
    start: int | None = None


@dataclass(frozen=True, slots=True)
class ToldIntent:
    """The durable cancel of one execution, and why. Stamps are microseconds since 1970, `grace_s` seconds."""

    run_id: str
    execution_id: str
    cancel_id: str
    start: int
    attempt: int
    force: bool
    source: str
    reason: str | None = None
    requested_by: str | None = None
    published_at_us: int | None = None
    deadline_us: int | None = None
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """An execution that the worker holds and another claim has replaced: stop it, there is nothing to ack."""

    run_id: str
    execution_id: str
    start: int


class Pending(NamedTuple):
    """An intent that is not settled, and the last word of its holder: its disposition and number."""

    intent: ToldIntent
    said: Disposition
    seq: int

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.intent.execution_id, self.intent.cancel_id, self.intent.force


def told(
    run_id: str, execution_id: str, cancel_id: str, intent: IntentRecord | None, operation: OperationRecord | None
) -> ToldIntent:
    """`intent` None: a gate stands against it, and its walk has not come by."""
    cause = cause_of(cancel_id, operation)
    return ToldIntent(
        run_id,
        execution_id,
        cancel_id,
        intent.start if intent else 0,
        intent.attempt if intent else 0,
        intent.force if intent else False,
        cause.source,
        cause.reason,
        cause.requested_by,
        intent.published_at_us if intent else None,
        operation.deadline_us if operation else None,
        cause.grace,
    )


def pending(intent: ToldIntent, record: ExecutionRecord | None, ack: AckRecord | None) -> Pending | None:
    """None where the holder has said that it ended. What nobody said proves nothing to who holds the body."""
    if ack is None or record is None or ack.start != record.start:
        return Pending(intent, Disposition.ASKED, 0)
    said = Disposition(ack.disposition)
    if said.settled and said not in _NOBODYS_WORD:
        return None
    return Pending(intent, said, int(ack.seq or 0))


def is_superseded(held: RemoteHeld, record: ExecutionRecord, slot: str | None, holder: Holder) -> bool:
    """Whether a newer claim than the worker's has been given; `slot` is the worker's in this run."""
    if held.start is not None and held.start < int(record.start):
        return True
    return record.claimed and (record.slot != slot or int(record.incarnation) > holder.incarnation)


class Answered:
    """What this process has answered to whom, so that a poll is woken by news only.

    News: what the worker has not acked yet, and a forced step until an ack has come after it. An answer can be
    lost on its way, so what is not acked is news again after `repeat_after_s`. Another server process knows
    nothing of this, and at worst says it once more.
    """

    def __init__(self, repeat_after_s: float = REPEAT_AFTER_S) -> None:
        self.repeat_after_s = repeat_after_s
        self._said: dict[tuple[object, ...], tuple[float, int]] = {}

    def due_at(self, holder: Holder, one: Pending | Superseded, now: float) -> float | None:
        """When it is news, on the loop's clock; None: it is not, until something is written."""
        at, seq = self._said.get(_key(holder, one), (None, 0))
        if isinstance(one, Pending) and one.said not in _NOBODYS_WORD:
            heard_the_force = at is not None and one.seq > seq
            if not one.intent.force or heard_the_force:
                return None
        return now if at is None else at + self.repeat_after_s

    def note(self, holder: Holder, one: Pending | Superseded, now: float) -> None:
        key = _key(holder, one)
        _, seq = self._said.pop(key, (None, one.seq if isinstance(one, Pending) else 0))
        self._said[key] = now, seq
        while len(self._said) > KEPT:
            del self._said[next(iter(self._said))]


def _key(holder: Holder, one: Pending | Superseded) -> tuple[object, ...]:
    return (holder, one.key) if isinstance(one, Pending) else (holder, one)
