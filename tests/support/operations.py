"""An operation as it stands in Redis, for what is pure."""

from __future__ import annotations

from broker.protocol.records import OperationRecord
from broker.protocol.states import Order, Scope


def open_operation(*, requested_at_us: int, deadline_us: int) -> OperationRecord:
    """A run's cancel, told and not settled."""
    return OperationRecord(
        cancel_id="c_1",
        scope=Scope.RUN,
        target="",
        order=Order.BOTTOM_UP,
        reason="user",
        requested_by="ops",
        requested_at_us=requested_at_us,
        deadline_us=deadline_us,
        give_up_us=requested_at_us + 3_600_000_000,
        force_after_us=None,
        phase="published",
        state="open",
        settled_at_us=None,
        dirty=False,
        v="0",
        fence="1",
        lease_until_us=0,
    )
