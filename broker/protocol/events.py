"""Control-plane events: what anyone who knows of executions says on the stream `<ns>:events`.

Version 1, golden examples in tests/unit/golden/events. Unknown fields are ignored. `parse_event` answers
None for an unknown type or a higher version, so that the caller can count and drop it; it raises
`InvalidInput` (`InvalidId` for an id) for what can never be applied.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from broker.errors import InvalidInput
from broker.protocol.names import ID_LIMIT, NUMBER_LIMIT, check_id, check_worker_id
from broker.protocol.records import as_stamp
from broker.protocol.registration import REASONER_LIMIT, STATUS_LIMIT
from broker.protocol.states import Disposition, Order, Scope, Status, is_terminal, normalise

VERSION = 1
EVENT_LIMIT_BYTES = 65_536
DETAIL_LIMIT = 500

_ID = r"^[A-Za-z0-9._:-][A-Za-z0-9._:@-]{0,199}$"
_RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
_DAY_MS = 86_400_000

Id = Annotated[str, StringConstraints(pattern=_ID)]
OptionalId = Annotated[str, StringConstraints(pattern=rf"^$|{_ID}")]
"""Empty is absent: what a language without optional fields sends."""
Number = Annotated[int, Field(ge=0, le=NUMBER_LIMIT)]
Time = Annotated[str, StringConstraints(pattern=rf"^$|{_RFC_3339}")]


class _Event(BaseModel):
    # Strict: a number is no text and no text a number, or one language would read what another one meant.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    v: Literal[1] = 1
    run_id: OptionalId | None = None
    occurred_at: Time | None = None

    @property
    def occurred_us(self) -> int | None:
        """Microseconds since 1970; None where it is absent, or before 1970 as an unset time of Go is."""
        return to_us(self.occurred_at, "occurred_at")


class StatusEvent(_Event):
    """What an execution is said to be. With `worker_id` (and `start`) it is its holder who speaks."""

    type: Literal[
        "execution.created",
        "execution.started",
        "execution.updated",
        "execution.completed",
        "execution.failed",
        "execution.cancelled",
    ]
    execution_id: Id
    parent_execution_id: OptionalId | None = None
    status: Annotated[str, Field(max_length=STATUS_LIMIT)] | None = None
    agent_node_id: OptionalId | None = None
    reasoner_id: Annotated[str, Field(max_length=REASONER_LIMIT)] | None = None
    started_at: Time | None = None
    worker_id: OptionalId | None = None
    incarnation: Number = 0
    start: Annotated[int, Field(ge=1, le=NUMBER_LIMIT)] = 1

    @property
    def started_us(self) -> int | None:
        return to_us(self.started_at, "started_at")

    @property
    def word(self) -> str:
        """The status as it is to be recorded: the type decides, the word refines. Empty: none was said."""
        return _word(self.type, self.status or "")


_WORDS: dict[str, str | None] = {
    "execution.created": None,
    "execution.started": Status.RUNNING.value,
    "execution.updated": None,
    "execution.completed": Status.SUCCEEDED.value,
    "execution.failed": Status.FAILED.value,
    "execution.cancelled": Status.CANCELLED.value,
}


@lru_cache(maxsize=1024)  # there are few of them, and an event has one
def _word(kind: str, status: str) -> str:
    said, expected = status.strip(), _WORDS[kind]
    if expected is None:
        return said
    if not said:
        return expected
    return said if normalise(said) == expected or _refines(said, expected) else expected


def _refines(said: str, expected: str) -> bool:
    """`execution.failed` with status timeout is a timeout; no other word changes what a type says."""
    return expected == Status.FAILED and is_terminal(said) and normalise(said) == Status.TIMEOUT


class AckEvent(_Event):
    """What a worker without the SDK says of an execution that it was told to stop."""

    type: Literal["execution.ack"]
    execution_id: Id
    cancel_id: OptionalId | None = None
    worker_id: Id
    incarnation: Number = 0
    start: Annotated[int, Field(ge=1, le=NUMBER_LIMIT)] = 1
    seq: Number = 0
    disposition: Literal["received", "deferred", "refused", "stopped", "killed", "ended_itself"]
    outcome: Annotated[str, Field(max_length=STATUS_LIMIT)] | None = None
    detail: Annotated[str, Field(max_length=DETAIL_LIMIT)] | None = None

    @property
    def settles(self) -> bool:
        return Disposition(self.disposition).settled


class _CancelRequested(_Event):
    reason: Annotated[str, Field(max_length=EVENT_LIMIT_BYTES)] | None = None
    requested_by: Annotated[str, Field(max_length=EVENT_LIMIT_BYTES)] | None = None
    idempotency_key: Annotated[str, Field(max_length=ID_LIMIT)] | None = None
    order: Literal["bottom_up", "bottom_up_barrier"] = Order.BOTTOM_UP.value
    deadline_ms: Annotated[int, Field(ge=0, le=365 * _DAY_MS)] = 30_000
    give_up_ms: Annotated[int, Field(ge=0, le=365 * _DAY_MS)] = 3_600_000
    force_after_ms: Annotated[int, Field(ge=0, le=365 * _DAY_MS)] | None = None
    grace_ms: Annotated[int, Field(ge=0, le=365 * _DAY_MS)] | None = None


class TargetCancelRequested(_CancelRequested):
    """A cancel of one execution, or of an execution and everything below it."""

    type: Literal["execution.cancel_requested", "subtree.cancel_requested"]
    execution_id: Id

    @property
    def scope(self) -> Scope:
        return Scope.EXECUTION if self.type == "execution.cancel_requested" else Scope.SUBTREE


class RunCancelRequested(_CancelRequested):
    """A cancel of a run, known or not."""

    type: Literal["run.cancel_requested"]
    run_id: Id

    @property
    def scope(self) -> Scope:
        return Scope.RUN


CancelRequested = TargetCancelRequested | RunCancelRequested
Event = StatusEvent | AckEvent | TargetCancelRequested | RunCancelRequested
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_validate = _ADAPTER.validator.validate_json


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    v: int = 1
    type: str


def parse_event(payload: bytes | str) -> Event | None:
    """One event, or None where its type is unknown or its version is higher than ours.

    Raises InvalidInput (InvalidId for an id) with what is wrong, the value, and what is allowed.
    """
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    if len(raw) > EVENT_LIMIT_BYTES:
        raise InvalidInput(f"event of {len(raw)} bytes: allowed are up to {EVENT_LIMIT_BYTES}")
    try:
        event: Event = _validate(raw)
    except ValidationError as error:
        if _is_of_the_future(raw):
            return None
        raise _refusal(error) from error
    _check(event)
    return event


@lru_cache(maxsize=8192)  # it is checked when it is read and used when it is applied
def to_us(time: str | None, field: str) -> int | None:
    """An RFC 3339 time as microseconds since 1970; None where it is absent or before that."""
    if not time:
        return None
    try:
        return as_stamp(datetime.fromisoformat(time.upper()))
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} {time!r}: {error}; allowed is a time of RFC 3339") from error


def _check(event: Event) -> None:
    """What no pattern says: a well-formed text may be no time (month 13), and a worker id the broker's own."""
    if event.occurred_at:
        to_us(event.occurred_at, "occurred_at")
    if isinstance(event, StatusEvent):
        if event.started_at:
            to_us(event.started_at, "started_at")
        if event.worker_id:
            check_worker_id(event.worker_id)
    elif isinstance(event, AckEvent):
        check_worker_id(event.worker_id)


def _is_of_the_future(raw: bytes) -> bool:
    try:
        envelope = _Envelope.model_validate_json(raw)
    except ValidationError:
        return False
    return envelope.v > VERSION or envelope.type not in EVENT_TYPES


EVENT_TYPES = frozenset({*_WORDS, "execution.ack", "execution.cancel_requested", "subtree.cancel_requested",
                         "run.cancel_requested"})  # fmt: skip


def _refusal(error: ValidationError) -> InvalidInput:
    """The first thing that is wrong, as an error of ours."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = [str(part) for part in first["loc"] if str(part) not in EVENT_TYPES]
    field, value = ".".join(path) or "event", first["input"]
    if first["type"] == "string_pattern_mismatch" and not field.endswith("_at"):
        check_id(value, field)
    if first["type"] == "string_pattern_mismatch":
        return InvalidInput(f"{field} {_shown(value)}: allowed is a time of RFC 3339, such as 2026-11-22T18:41:59.5Z")
    return InvalidInput(f"{field} {_shown(value)}: {first['msg']}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}… ({len(text)} long)"
