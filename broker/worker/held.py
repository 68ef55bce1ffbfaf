"""What the listener's thread and the body's loop know together of one execution that is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from broker.errors import CancelCause
from broker.protocol.records import IntentRecord
from broker.protocol.states import Disposition

Applied = tuple[int, str, bool]


@dataclass(slots=True, eq=False)
class Held:
    """One execution of this process, from before its SUBSCRIBE until its end is recorded.

    Everything here belongs to the listener's thread, but for `fire`, which hands a cancel over to the
    body: it is called on the listener's thread, must return at once and never raise; and for `left`, which the
    body sets when it is through, so that nothing is said any more but its end.
    """

    run_id: str
    execution_id: str
    parent_execution_id: str
    reasoner_id: str
    fire: Callable[[CancelCause, bool], None]
    channel: str = ""
    start: int = 0
    seq: int = 0
    confirmed: bool = False
    holding: asyncio.Task[Any] | None = None  # only until the claim is answered
    ended: bool = False
    applied: frozenset[Applied] = frozenset()
    early: tuple[IntentRecord, CancelCause] | None = None
    received_due: bool = False
    left: bool = False
    said: tuple[Disposition, str] = (Disposition.RECEIVED, "")

    def take(self, intent: IntentRecord) -> bool:
        """Notes an intent; False where it is a repeat (dedupe on start number, cancel id, force).

        A cooperative intent after a forced one is a repeat, too: it must not interrupt the forced cleanup.
        """
        start, cancel_id, force = self.start, intent.cancel_id, intent.force
        if (start, cancel_id, True) in self.applied or (start, cancel_id, force) in self.applied:
            return False
        self.applied = _with(self.applied, (start, cancel_id, force))
        return True

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq


@lru_cache(maxsize=256)
def _with(applied: frozenset[Applied], one: Applied) -> frozenset[Applied]:
    """One set for all that the same cancel tells: thousands of equal ones are work for the garbage collector."""
    return applied | {one}
