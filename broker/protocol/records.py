"""The compact records of a run's hashes: fields joined by `|`, free text percent-escaped.

The order of the fields is part of the wire (see README.md beside this file). Stamps are decimal text in
microseconds; empty means absent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, NamedTuple, TypeVar, overload

from broker.protocol.states import Order, Scope

_ESCAPES = (("%", "%25"), ("|", "%7C"), ("\n", "%0A"), ("\r", "%0D"))


LATEST_US = 9_000_000_000_000_000  # the year 2255: the last stamp that Lua can compare exactly
REMARKS = frozenset({"overdue", "given_up"})
SAME = "="
"""In an execution's record: started when it was registered; the status has been so since it started."""
_NOT_SAID = ("", SAME)


def escape(text: str) -> str:
    """Makes free text safe as a field of a compact record."""
    if not text or text.isidentifier():  # most are a status: nothing to look for
        return text
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text


def unescape(text: str) -> str:
    if "%" not in text:
        return text
    for plain, escaped in reversed(_ESCAPES):
        text = text.replace(escaped, plain)
    return text


def stamp(text: str) -> int | None:
    """A stamp in microseconds since 1970, None where the field is empty."""
    return int(text) if text else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def as_time(stamp_us: int) -> datetime: ...
@overload
def as_time(stamp_us: int | None) -> datetime | None: ...
def as_time(stamp_us: int | None) -> datetime | None:
    """A stamp of Redis, in microseconds since 1970, as a time; exact, which a float of seconds is not."""
    return None if stamp_us is None else _EPOCH + timedelta(microseconds=stamp_us)


def rfc3339(time: datetime) -> str:
    """As text: UTC with microseconds, which is what Redis's clock says."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def as_stamp(time: datetime) -> int | None:
    """The stamp of a time that somebody said, with a zone: cut to what Lua can compare exactly.

    None for a time that is not after 1970, as an unset one of Go is; below zero it would not be an execution's.
    """
    microseconds = (time - _EPOCH) // timedelta(microseconds=1)
    return min(microseconds, LATEST_US) if microseconds > 0 else None


T = TypeVar("T")


class Parsed(Mapping[str, T], Generic[T]):
    """Records by id, kept as they were read and parsed where one is looked at.

    A run has up to a million of them, nearly all looked at once: as objects they are most of what the garbage
    collector has to walk, again and again while they are read; text is nothing to it.
    """

    __slots__ = ("_parse", "_raw")

    def __init__(self, raw: dict[str, str], parse: Callable[[str], T]) -> None:
        self._raw = raw
        self._parse = parse

    def __getitem__(self, one: str) -> T:
        return self._parse(self._raw[one])

    def __contains__(self, one: object) -> bool:
        return one in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def raw(self) -> Iterable[tuple[str, str]]:
        """Ids and what was read of them, for who needs less than a record."""
        return self._raw.items()


class ExecutionRecord(NamedTuple):
    """What is known of an execution. `slot` is empty unless a claim is open; `start` counts the claims.

    `stamp` says when the status was so, which decides between non-terminal ones that come in the wrong
    order: empty where it was registered, Redis time where a script changed it, and where an event said it
    `occurred_us,ms,number` with the two parts of the event's stream id (occurred 0: it was its creation).
    Behind it stands `?` where someone who held nothing said that it has ended, and no holder has; `+` where a start
    was seen since then.
    """

    status: str
    parent_execution_id: str
    agent_node_id: str
    reasoner_id: str
    started_at_us: str
    registered_at_us: str
    slot: str
    incarnation: str
    start: str
    stamp: str = ""

    @classmethod
    def parse(cls, raw: str) -> ExecutionRecord:
        status, parent, agent_node, reasoner, started_us, registered_us, slot, incarnation, start, stamp = raw.split(
            "|"
        )
        started_us = registered_us if started_us == SAME else started_us
        stamp = started_us if stamp == SAME else stamp
        return cls(status, parent, agent_node, reasoner, started_us, registered_us, slot, incarnation, start, stamp)

    @property
    def raw_status(self) -> str:
        return unescape(self.status)

    @property
    def order_us(self) -> int:
        """When it started; absent: when it was registered."""
        return int(self.started_at_us or self.registered_at_us or 0)

    @property
    def claimed(self) -> bool:
        return self.slot != ""

    @property
    def by_event(self) -> bool:
        """Whether its claim is of a worker that said no incarnation: no heartbeat is known to be its."""
        return self.incarnation == "0"

    @property
    def seen_to_run(self) -> bool:
        """Whether a start was seen, by nobody's claim, after an end that no holder has reported."""
        return self.stamp.endswith("+")


class Facts(NamedTuple):
    """What an answer says of an execution beside its place in the tree: few are different in a run of many."""

    raw_status: str
    agent_node_id: str
    reasoner_id: str

    @classmethod
    def read(cls, status: str, agent_node_id: str, reasoner_id: str) -> Facts:
        """From these fields of its record."""
        return cls(unescape(status), agent_node_id, unescape(reasoner_id))


def place_of(raw: str) -> tuple[str, int, int]:
    """What the walk needs: the parent, when it started (else was registered), and when it was registered."""
    _, parent, _, _, started_us, registered_us, _ = raw.split("|", 6)
    registered = int(registered_us or 0)
    return parent, registered if started_us in _NOT_SAID else int(started_us), registered


class Places(NamedTuple):
    """What `place_of` says of some records, in columns, and the facts of each."""

    parents: Sequence[str]
    stamps_us: Sequence[int]
    registered_us: Sequence[int]
    facts: Sequence[Facts]


def places_of(raw: Iterable[str], known: dict[tuple[str, str, str], Facts]) -> Places:
    """Those of these records; `known` has the facts that were met before, so that equal ones are one.

    Nothing outlives its record but text and numbers: what the garbage collector sees piling up makes it walk the run.
    """
    parents, stamps_us, registered_us, facts = list[str](), list[int](), list[int](), list[Facts]()
    for one in raw:
        status, parent, agent_node, reasoner, started, registered, _ = one.split("|", 6)
        words = status, agent_node, reasoner
        at_us = int(registered or 0)
        parents.append(parent)
        stamps_us.append(at_us if started in _NOT_SAID else int(started))
        registered_us.append(at_us)
        facts.append(known.get(words) or known.setdefault(words, Facts.read(*words)))
    return Places(parents, stamps_us, registered_us, facts)


class Rows(NamedTuple):
    """A page of executions and what stands beside each of them, as text; None where nothing does."""

    ids: Sequence[str]
    executions: Sequence[str]
    intents: Sequence[str | None]
    acks: Sequence[str | None]


class IntentRecord(NamedTuple):
    """The durable cancel of one execution.

    `published_at_us` is the time of attempt 1, `start` the claim it is meant for (0: none), `receivers` is 0
    where the last PUBLISH counted no subscriber, else None.
    """

    cancel_id: str
    published_at_us: int
    attempt: int
    start: int
    force: bool
    receivers: int | None = None

    @classmethod
    def parse(cls, raw: str) -> IntentRecord:
        cancel_id, published_at_us, attempt, start, force, receivers = raw.split("|")
        return cls(cancel_id, int(published_at_us), int(attempt), int(start), force == "1", stamp(receivers))


class AuditEntry(NamedTuple):
    """One line of a run's log: who did what to which cancel, when, and why.

    `at_us` is Redis time in microseconds since 1970. `event`: requested, escalated, asserted_again (after a data
    loss), published, takeover (another process drives it), overdue, given_up (told no more), reopened, settled,
    late_ack, late_end. `by` is who asked, or the process that took over; None where it is the broker's own.
    `position` is the place in the log, to read on from.
    """

    at_us: int
    event: str
    cancel_id: str | None
    by: str | None
    reason: str | None
    detail: str
    position: str

    @classmethod
    def parse(cls, position: str, flat: Sequence[str]) -> AuditEntry:
        fields = dict(zip(flat[0::2], flat[1::2], strict=True))
        return cls(
            at_us=int(fields["at_us"]),
            event=fields["event"],
            cancel_id=fields["cancel_id"] or None,
            by=fields.get("by") or None,
            reason=fields.get("reason") or None,
            detail=fields["detail"],
            position=position,
        )


class Durability(NamedTuple):
    """Replicas that were asked to have a cancel before it was answered, and those that said that they have."""

    wanted: int
    reached: int


class AckRecord(NamedTuple):
    """What really happened to a cancelled execution, as far as anyone has said."""

    disposition: str
    seq: str
    start: str
    slot: str
    outcome: str
    received_at_us: str
    settled_at_us: str
    detail: str

    @classmethod
    def parse(cls, raw: str) -> AckRecord:
        return cls(*raw.split("|"))


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A durable cancel operation, as it stands in `<ns>:{R}:cancels`: a JSON object whose values are text.

    `phase` is walking or published, `state` open or settled. `v` rises with everything that makes an
    earlier reading of "nothing unsettled" worthless, `fence` with every new driver. Times are Redis time
    in microseconds; `force_after_us` counts from the request, empty for never. `remarked`: which of REMARKS
    the audit has.
    """

    cancel_id: str
    scope: Scope
    target: str
    order: Order
    reason: str | None
    requested_by: str | None
    requested_at_us: int
    deadline_us: int
    give_up_us: int
    force_after_us: int | None
    phase: str
    state: str
    settled_at_us: int | None
    dirty: bool
    v: str
    fence: str
    lease_until_us: int
    grace_us: int | None = None
    remarked: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, cancel_id: str, raw: str) -> OperationRecord:
        fields = json.loads(raw)
        return cls(
            cancel_id=cancel_id,
            scope=Scope(fields["scope"]),
            target=fields["target"],
            order=Order(fields["order"]),
            reason=fields["reason"] or None,
            requested_by=fields["requested_by"] or None,
            requested_at_us=int(fields["requested_at_us"]),
            deadline_us=int(fields["deadline_us"]),
            give_up_us=int(fields["give_up_us"]),
            force_after_us=stamp(fields["force_after_us"]),
            phase=fields["phase"],
            state=fields["state"],
            settled_at_us=stamp(fields["settled_at_us"]),
            dirty=fields["dirty"] == "1",
            v=fields["v"],
            fence=fields["fence"],
            lease_until_us=int(fields["lease_until_us"]),
            grace_us=stamp(fields["grace_us"]),
            remarked=frozenset(REMARKS & fields.keys()),
        )
