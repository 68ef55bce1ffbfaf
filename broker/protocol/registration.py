"""An execution as a control plane registers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.errors import InvalidInput

STATUS_LIMIT = 64
REASONER_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution to be registered; only the id is needed.

    `status` may be any word: the known ones and their aliases count as what they say, others as unknown.
    `started_at` has a time zone. Raises InvalidInput for a field that cannot be stored.
    """

    execution_id: str
    parent_execution_id: str | None = None
    status: str = "pending"
    agent_node_id: str | None = None
    reasoner_id: str | None = None
    started_at: datetime | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.status) <= STATUS_LIMIT:
            raise InvalidInput(f"status {self.status!r}: allowed is a word of 1 to {STATUS_LIMIT} characters")
        if self.reasoner_id is not None and len(self.reasoner_id) > REASONER_LIMIT:
            raise InvalidInput(f"reasoner_id {self.reasoner_id[:50]!r}…: allowed are up to {REASONER_LIMIT} characters")
        if self.started_at is not None and self.started_at.tzinfo is None:
            raise InvalidInput(f"started_at {self.started_at!r}: needs a time zone")
