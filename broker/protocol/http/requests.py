"""What clients send, beside the compatible pair, which parses its own body. Limits stand here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from broker.protocol.names import CANCEL_TEXT_LIMIT, ID_LIMIT, NUMBER_LIMIT
from broker.protocol.states import Order

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a request body."""
EXECUTIONS_LIMIT = 10_000
"""Executions in one registration, and events in one body."""
HELD_LIMIT = 10_000
WAIT_LIMIT_MS = 60_000
"""Longest patience of a long poll."""
DURATION_LIMIT_MS = 365 * 24 * 3_600_000
PAGE_LIMIT = 1_000
REPLAY_LIMIT = 1_000
"""Dead events that are replayed at once."""

Id = Annotated[str, Field(max_length=ID_LIMIT)]
"""The grammar is checked by `check_id` when it is used; the length here."""
Number = Annotated[int, Field(ge=1, le=NUMBER_LIMIT)]
Text = Annotated[str, Field(max_length=CANCEL_TEXT_LIMIT)]


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @field_validator("*")
    @classmethod
    def _writable(cls, value: Any) -> Any:
        """JSON can carry half a surrogate pair, which nothing can write as UTF-8."""
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            raise ValueError("holds half of a surrogate pair")
        return value


class ExecutionRequest(Request):
    """An execution to be registered."""

    execution_id: str
    parent_execution_id: str | None = None
    status: str = "pending"
    agent_node_id: str | None = None
    reasoner_id: str | None = None
    started_at: datetime | None = None


class RegisterRequest(Request):
    executions: Annotated[list[ExecutionRequest], Field(max_length=EXECUTIONS_LIMIT)]


class StartRequest(Request):
    """A worker asks for the claim; `incarnation` is the one that its heartbeat answered with."""

    worker_id: Id
    incarnation: Number
    run_id: Id | None = None
    parent_execution_id: Id | None = None
    agent_node_id: Id | None = None
    reasoner_id: Id | None = None


class FinishRequest(Request):
    """The holder's end; `queued` gives the claim back. `disposition` counts only where it was cancelled.

    Without it a `status` that means cancelled counts as stopped, any other as ended_itself.
    """

    run_id: Id | None = None
    worker_id: Id
    incarnation: Number
    start: Number
    status: Annotated[str, Field(min_length=1, max_length=64)]
    disposition: Literal["stopped", "killed", "ended_itself"] | None = None
    detail: Text | None = None


class AckRequest(Request):
    """The same JSON as the event `execution.ack`. Without `incarnation` it is the one that has the claim."""

    run_id: Id | None = None
    worker_id: Id
    incarnation: Number | None = None
    cancel_id: Id | None = None
    start: Number
    seq: Number
    disposition: Literal["received", "deferred", "refused", "stopped", "killed", "ended_itself"]
    outcome: Text | None = None
    detail: Text | None = None


class HeldRequest(Request):
    """With `start`, the number of the claim, a claim that has replaced it is told apart for certain."""

    run_id: Id | None = None
    execution_id: Id
    start: Number | None = None


class HeartbeatRequest(Request):
    """Without `incarnation` a new process begins: the answer says which number it has."""

    incarnation: Number | None = None
    agent_node_id: Id | None = None
    held: Annotated[list[HeldRequest], Field(max_length=HELD_LIMIT)] = []
    wait_ms: Annotated[int, Field(ge=0, le=WAIT_LIMIT_MS)] = 0


class DeadRequest(Request):
    incarnation: Number
    reason: Text | None = None


class ReplayRequest(Request):
    """Ids of dead events, in the order in which they are to go back."""

    ids: Annotated[
        list[Annotated[str, Field(pattern=r"^[0-9]{1,19}-[0-9]{1,19}$")]], Field(min_length=1, max_length=REPLAY_LIMIT)
    ]


class CancelQuery(Request):
    """What every cancel takes in its query, beside the body. `nodes=0` leaves the list of nodes out."""

    wait_ms: Annotated[int, Field(ge=0, le=WAIT_LIMIT_MS, description="answer when settled, or after this time")] = 0
    deadline_ms: Annotated[int, Field(ge=0, le=DURATION_LIMIT_MS, description="then overdue; 30000 if absent")] = 30_000
    order: Annotated[Order, Field(description="the order of telling")] = Order.BOTTOM_UP
    grace_ms: Annotated[int | None, Field(ge=0, le=DURATION_LIMIT_MS, description="from SIGTERM to SIGKILL")] = None
    force_after_ms: Annotated[int | None, Field(ge=0, le=DURATION_LIMIT_MS, description="then the forced step")] = None
    give_up_ms: Annotated[int, Field(ge=0, le=DURATION_LIMIT_MS, description="then redelivery ends")] = 3_600_000
    nodes: Annotated[bool, Field(description="0 leaves the list of nodes out")] = True


class CancelRequest(Request):
    """The optional body of a cancel. A blank reason counts as none; `null` too."""

    reason: Text | None = None
