"""The messages that cross a process boundary: version 1, golden examples in tests/unit/golden.

Unknown fields are ignored. `parse_message` answers None for an unknown type or a higher version, so that
the caller can count and drop it; it raises `InvalidInput` for what is no message at all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from broker.errors import InvalidInput
from broker.protocol.states import Disposition, Source

VERSION = 1


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1


class CancelMessage(_Message):
    """Broker to worker, on the channel of one execution. A hint: the intent is the truth."""

    type: Literal["cancel"] = "cancel"
    cancel_id: str
    run_id: str
    execution_id: str
    start: int = 0
    source: Source
    reason: str | None = None
    requested_by: str | None = None
    published_at_us: int
    attempt: int = 1
    deadline_us: int
    force: bool = False


class AcksMessage(_Message):
    """What one script call settled or heard, on the ack channel of a run.

    `acks` pairs execution id and disposition, `settled` names the operations that are settled by it.
    """

    type: Literal["acks"] = "acks"
    at_us: str
    acks: list[tuple[str, Disposition]] = Field(default_factory=list)
    settled: list[str] = Field(default_factory=list)


class CanaryMessage(_Message):
    """A worker to itself, on its control channel: proves that its subscription is alive."""

    type: Literal["canary"] = "canary"
    nonce: str


class DoYouHoldMessage(_Message):
    """Broker to a worker process, on its control channel: it has said nothing of these, are they held at all?

    `executions` pairs execution id and start number. A process of another incarnation is not meant.
    """

    type: Literal["do_you_hold"] = "do_you_hold"
    run_id: str
    executions: list[tuple[str, int]]
    incarnation: int


AnyMessage = CancelMessage | AcksMessage | CanaryMessage | DoYouHoldMessage
Message = Annotated[AnyMessage, Field(discriminator="type")]
_ADAPTER: TypeAdapter[AnyMessage] = TypeAdapter(Message)
_KNOWN = frozenset({"cancel", "acks", "canary", "do_you_hold"})


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    v: int
    type: str


def parse_message(payload: bytes | str) -> AnyMessage | None:
    """One message, or None where its type is unknown or its version is higher than ours.

    Raises InvalidInput where the payload is not a message.
    """
    try:
        return _ADAPTER.validate_json(payload)
    except ValidationError as error:
        if _is_of_the_future(payload):
            return None
        raise InvalidInput(f"not a message of version {VERSION}: {payload[:200]!r}") from error


def parse_acks(payload: bytes | str) -> AcksMessage | None:
    """The same where acks are expected; None for any other message, too. A cancel of many is followed by many."""
    try:
        acks = AcksMessage.model_validate_json(payload)
    except ValidationError:
        acks = None
    if acks is not None and "type" in acks.model_fields_set:
        return acks
    message = parse_message(payload)
    return message if isinstance(message, AcksMessage) else None


def _is_of_the_future(payload: bytes | str) -> bool:
    try:
        envelope = _Envelope.model_validate_json(payload)
    except ValidationError:
        return False
    return envelope.v > VERSION or envelope.type not in _KNOWN
