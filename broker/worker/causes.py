"""Why something was cancelled, as the durable operation says: a message is only a hint (trap T33)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping

from broker.errors import CancelCause
from broker.protocol.records import OperationRecord
from broker.protocol.states import Scope, Source
from broker.store.claims import Claims

KEPT = 1000  # causes: a worker meets few operations at a time, and lives long
_SOURCE_OF_SCOPE = {
    Scope.RUN: Source.CANCEL_TREE,
    Scope.SUBTREE: Source.CANCEL_SUBTREE,
    Scope.EXECUTION: Source.CANCEL_API,
}

Asked = Mapping[str, asyncio.Future[str | None]]


class Causes:
    """Reads each operation once, and remembers the newest of them."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._known: dict[str, CancelCause] = {}

    def learn(self, run_id: str, cancel_ids: Iterable[str]) -> Awaitable[None]:
        """Reads those that are not known and that there are: what a message names need not be true.

        They are asked for before this returns, so they share the round trip of what is asked for next.
        """
        return self._learn(self._ask(run_id, cancel_ids))

    async def of(self, run_id: str, cancel_ids: Iterable[str]) -> dict[str, CancelCause]:
        """Cancel id → cause. Raises BrokerUnavailable."""
        wanted = list(cancel_ids)
        learned = {one: cause_of(one, found) for one, found in (await _answers(self._ask(run_id, wanted))).items()}
        causes = {one: learned.get(one) or self._known[one] for one in wanted}
        self._keep(learned)
        return causes

    def _ask(self, run_id: str, cancel_ids: Iterable[str]) -> Asked:
        return {one: self._claims.operation_text(run_id, one) for one in cancel_ids if one not in self._known}

    async def _learn(self, asked: Asked) -> None:
        self._keep({one: cause_of(one, found) for one, found in (await _answers(asked)).items() if found})

    def _keep(self, causes: dict[str, CancelCause]) -> None:
        self._known.update(causes)
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]


async def _answers(asked: Asked) -> dict[str, OperationRecord | None]:
    if not asked:
        return {}
    waiting = list(asked.values())
    texts = [await waiting[0]] if len(waiting) == 1 else await asyncio.gather(*waiting)
    return {one: OperationRecord.parse(one, text) if text else None for one, text in zip(asked, texts, strict=True)}


def cause_of(cancel_id: str, operation: OperationRecord | None) -> CancelCause:
    """A gate outlives its operation: then that is all that is known."""
    if operation is None:
        return CancelCause(cancel_id, Source.GATE)
    source = _SOURCE_OF_SCOPE[operation.scope]
    grace = None if operation.grace_us is None else operation.grace_us / 1e6
    return CancelCause(cancel_id, source, operation.reason, operation.requested_by, operation.requested_at_us, grace)
