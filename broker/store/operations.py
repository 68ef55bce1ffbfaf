"""The verbs of a cancel: list, open, walk, publish, settle, lease, redeliver.

Each answers with a code of its script (see the header of the Lua file); errors of the caller's are raised.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.errors import AlreadyTerminal, BrokerUnavailable, IdempotencyKeyReused, NotFound, TreeTooDeep
from broker.protocol.names import MESSAGE_TEXT_LIMIT
from broker.protocol.records import OperationRecord, unescape
from broker.protocol.states import Order, Scope
from broker.store.backend import Backend

LEASE_US = 5_000_000
CHUNK = 100  # executions a script call: holds Redis 1.5 to 2 ms (trap T48)
OPEN_WITHIN_US = 360_000_000  # every open operation is due again within this; settled ones seldom are
CLOCK_KNOWN_S = 10.0  # this long after Redis last said its time it is worked out here
SETTLED_AGAIN_US = 3_600_000_000  # what is settled is due again this long after each look
CHUNKS_IN_FLIGHT = 8  # about 16 ms of Redis: enough to keep it busy, short enough for others to get in


class Asserted(NamedTuple):
    """What makes an operation the same one when it is asserted again after a data loss.

    `requested_at_us` is the time of the request, in Redis time; `settle_after_us` how long from now it cannot
    be settled: first those who hold something must have had the time to say so again.
    """

    requested_at_us: int
    settle_after_us: int


@dataclass(frozen=True, slots=True)
class CancelTerms:
    """What was asked for. Durations in microseconds, counted from the request."""

    scope: Scope
    target: str = ""
    order: Order = Order.BOTTOM_UP
    reason: str | None = None
    requested_by: str | None = None
    deadline_us: int = 30_000_000
    give_up_us: int = 3_600_000_000
    force_after_us: int | None = None
    grace_us: int | None = None
    idempotency_key: str = ""
    allow_unknown: bool = False

    def to_json(self, asserted: Asserted | None = None) -> str:
        """The part of the operation that does not change; `message` is spliced into every cancel message."""
        message = json.dumps(
            {"reason": _cut(self.reason), "requested_by": _cut(self.requested_by)}, separators=(",", ":")
        )
        return json.dumps(
            {
                "order": self.order,
                "reason": self.reason or "",
                "requested_by": self.requested_by or "",
                "message": message[1:-1],
                "deadline_us": str(self.deadline_us),
                "give_up_us": str(self.give_up_us),
                "force_after_us": "" if self.force_after_us is None else str(self.force_after_us),
                "grace_us": "" if self.grace_us is None else str(self.grace_us),
                "requested_at_us": "" if asserted is None else str(asserted.requested_at_us),
                "settle_after_us": "0" if asserted is None else str(asserted.settle_after_us),
            }
        )


def _cut(text: str | None) -> str | None:
    return text[:MESSAGE_TEXT_LIMIT] if text else None


class Opened(NamedTuple):
    """The operation that answers a request, and whether it was there before."""

    operation: OperationRecord
    repeated: bool


class Told(NamedTuple):
    """What became of one execution of a chunk; `code` is an EACH word of publish_cancels.lua."""

    execution_id: str
    code: str
    previous_status: str
    cancel_id: str


class Operations:
    """Cancel operations of all runs. `driver` names this process in leases."""

    def __init__(self, backend: Backend, driver: str) -> None:
        self._backend = backend
        self.driver = driver
        self._clock: tuple[int, float] | None = None

    async def enlist(self, run_id: str, cancel_id: str) -> str:
        """Puts the operation on the work list; answers the Redis time of it, in microseconds."""
        answer = await self._backend.commands.call(
            self._backend.scripts.list_operation,
            (self._backend.keys.work_list,),
            entry=f"{run_id}|{cancel_id}",
            delay_us=str(LEASE_US),
        )
        self._heard_time(int(answer))
        return str(answer)

    async def enlist_since(self, run_id: str, cancel_id: str, since_us: int) -> None:
        """The same for who already knows a time that has passed (`passed_us`): no script that may be missing, so it
        stands before what is asked for right behind it, whatever Redis has forgotten."""
        await self.reschedule(run_id, cancel_id, since_us + LEASE_US)

    def passed_us(self) -> int | None:
        """A time that Redis's clock has passed, in microseconds, a moment ago; None where that is not known.

        What Redis said last, and the time since it came here: what is asked for now is done after that.
        """
        if self._clock is None:
            return None
        said_us, heard_at = self._clock
        since_s = time.monotonic() - heard_at
        return said_us + int(since_s * 1e6) if since_s < CLOCK_KNOWN_S else None

    def _heard_time(self, now_us: int) -> None:
        self._clock = now_us, time.monotonic()

    async def open(
        self, run_id: str, cancel_id: str, terms: CancelTerms, listed_at_us: str, asserted: Asserted | None = None
    ) -> Opened:
        """Makes the operation durable and closes its gate in the same write.

        `asserted`: it was open before Redis lost data, and is made again, with its lease free, or walked again
        where it is still there. Raises NotFound, AlreadyTerminal, IdempotencyKeyReused, TreeTooDeep; then
        nothing was written, and nothing of this is raised for one that is asserted.
        """
        code, *answer = await self._backend.on_run(
            self._backend.scripts.open_cancel,
            run_id,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            cancel_id=cancel_id,
            scope=terms.scope,
            target=terms.target,
            terms=terms.to_json(asserted),
            client_key=terms.idempotency_key,
            listed_at_us=listed_at_us,
            allow_unknown="1" if terms.allow_unknown else "0",
            driver=self.driver,
            lease_us="0" if asserted else str(LEASE_US),
        )
        if code == "listing_expired":
            self._clock = None  # it may be what was wrong
        if code not in ("opened", "repeat"):
            await self.drop(run_id, cancel_id)
            _raise_refusal(code, answer, run_id, terms)
        opened = OperationRecord.parse(answer[0], answer[1])
        if opened.cancel_id != cancel_id:
            await self.drop(run_id, cancel_id)
        # A connection that broke in mid-flight had it sent twice: one that has our id is ours to drive.
        return Opened(opened, repeated=code == "repeat" and opened.cancel_id != cancel_id)

    async def assert_again(self, run_id: str, cancel_id: str, terms: CancelTerms, asserted: Asserted) -> None:
        """After a data loss: on the work list, due now, and its gate closed again. Raises BrokerUnavailable."""
        if terms.target:
            keys, seconds = self._backend.keys, self._backend.lifetimes.index_s
            await self._backend.commands.command("SET", keys.execution(terms.target), run_id, "NX", "EX", seconds)
        await self.open(run_id, cancel_id, terms, await self.enlist(run_id, cancel_id), asserted)
        await self.reschedule(run_id, cancel_id, 0)

    async def begin_walk(self, run_id: str, operation: OperationRecord) -> OperationRecord | None:
        """Clears dirty before anything is read; None where a newer driver has the operation."""
        code, *answer = await self._backend.on_run(
            self._backend.scripts.begin_walk, run_id, cancel_id=operation.cancel_id, fence=operation.fence
        )
        return OperationRecord.parse(operation.cancel_id, answer[0]) if code == "walking" else None

    async def publish(self, run_id: str, operation: OperationRecord, chunk: Sequence[str]) -> tuple[str, list[Told]]:
        """Decides and tells one chunk: the script's code, then what became of each execution."""
        return await self.publish_as(run_id, operation.cancel_id, operation.fence, chunk)

    async def publish_as(self, run_id: str, cancel_id: str, fence: str, chunk: Sequence[str]) -> tuple[str, list[Told]]:
        """The same for an operation whose opening may still be under way: `gone` where there is none."""
        code, *flat = await self._backend.on_run(
            self._backend.scripts.publish_cancels,
            run_id,
            *chunk,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            cancel_id=cancel_id,
            fence=fence,
        )
        told = zip(chunk, flat[0::3], flat[1::3], flat[2::3], strict=False)
        return code, [Told(one, code, unescape(before), cancel_id) for one, code, before, cancel_id in told]

    async def end_walk(self, run_id: str, operation: OperationRecord, summary: str) -> str:
        code, *_ = await self._backend.on_run(
            self._backend.scripts.end_walk,
            run_id,
            cancel_id=operation.cancel_id,
            fence=operation.fence,
            summary=summary,
        )
        return str(code)

    async def settle(self, run_id: str, cancel_id: str, seen_v: str = "") -> str:
        code, *_ = await self._backend.on_run(
            self._backend.scripts.settle,
            run_id,
            channels=self._backend.keys.channels(run_id),
            cancel_id=cancel_id,
            seen_v=seen_v,
        )
        return str(code)

    async def lease(
        self, run_id: str, cancel_id: str, fence: str = "", lease_us: int = LEASE_US
    ) -> OperationRecord | str:
        """Takes over, renews or (0) gives back the lease: the operation, or the code `busy` or `gone`."""
        code, *answer = await self._backend.on_run(
            self._backend.scripts.lease,
            run_id,
            cancel_id=cancel_id,
            driver=self.driver,
            fence=fence,
            lease_us=str(lease_us),
        )
        return OperationRecord.parse(cancel_id, answer[1]) if code == "leased" else str(code)

    async def redeliver(
        self, run_id: str, operation: OperationRecord, chunk: Sequence[str], *, force: bool = False
    ) -> int:
        """Tells a chunk again; answers how many messages were published, 0 where a newer driver is there."""
        code, *answer = await self._backend.on_run(
            self._backend.scripts.redeliver,
            run_id,
            *chunk,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            cancel_id=operation.cancel_id,
            fence=operation.fence,
            force="1" if force else "0",
        )
        return int(answer[0]) if code == "published" else 0

    async def remark(self, run_id: str, operation: OperationRecord, event: str, detail: str) -> bool:
        """Notes `overdue`, `given_up` or `summed_up`, once; True where it was this call that did.

        Not where a newer driver is there. `summed_up` stands for one settlement: it may come again after a reopening.
        """
        code, *_ = await self._backend.on_run(
            self._backend.scripts.remark,
            run_id,
            cancel_id=operation.cancel_id,
            fence=operation.fence,
            event=event,
            detail=detail,
        )
        return str(code) == "noted"

    async def due(self, limit: int = 100) -> list[tuple[str, str]]:
        """Operations on the work list whose time has come: (run id, cancel id)."""
        now_us = await self.now_us()
        entries = await self._backend.commands.command(
            "ZRANGE", self._backend.keys.work_list, "-inf", str(now_us), "BYSCORE", "LIMIT", "0", str(limit)
        )
        return [_split_entry(entry) for entry in entries]

    async def listed(self) -> list[tuple[str, str]]:
        """Every operation on the work list, settled or not: (run id, cancel id)."""
        found: dict[str, None] = {}
        cursor = "0"
        while True:
            cursor, page = await self._backend.commands.command(
                "ZSCAN", self._backend.keys.work_list, cursor, "COUNT", 1000
            )
            found.update(dict.fromkeys(page[0::2]))
            if str(cursor) == "0":
                return [_split_entry(entry) for entry in found]

    async def listed_between(self, since_us: int, until_us: int, limit: int) -> dict[tuple[str, str], int]:
        """Entries of the work list that are due then: (run id, cancel id) → when, Redis time in microseconds."""
        flat = await self._backend.commands.command(
            "ZRANGE", self._backend.keys.work_list, str(since_us), str(until_us), "BYSCORE", "LIMIT", "0", str(limit),
            "WITHSCORES",
        )  # fmt: skip
        return {_split_entry(one): int(float(due)) for one, due in zip(flat[0::2], flat[1::2], strict=True)}

    async def due_at(self, run_id: str, cancel_id: str) -> int | None:
        score = await self._backend.commands.command("ZSCORE", self._backend.keys.work_list, f"{run_id}|{cancel_id}")
        return None if score is None else int(float(score))

    async def reschedule(self, run_id: str, cancel_id: str, due_us: int) -> None:
        """Sets when the sweep looks at the operation next (Redis time, microseconds)."""
        await self._backend.commands.command("ZADD", self._backend.keys.work_list, str(due_us), f"{run_id}|{cancel_id}")

    async def drop(self, run_id: str, cancel_id: str) -> None:
        """Takes an entry that has no operation off the work list."""
        await self._backend.commands.command("ZREM", self._backend.keys.work_list, f"{run_id}|{cancel_id}")

    async def now_us(self) -> int:
        """Redis time in microseconds: the one clock."""
        seconds, microseconds = await self._backend.commands.command("TIME")
        now_us = int(seconds) * 1_000_000 + int(microseconds)
        self._heard_time(now_us)
        return now_us


def new_cancel_id() -> str:
    return "c_" + secrets.token_hex(10)


def _split_entry(entry: str) -> tuple[str, str]:
    run_id, _, cancel_id = entry.rpartition("|")
    return run_id, cancel_id


def _raise_refusal(code: str, answer: Sequence[str], run_id: str, terms: CancelTerms) -> None:
    if code == "not_found":
        what = f"execution {terms.target}" if terms.target else f"run {run_id}"
        raise NotFound(f"{what} not found")
    if code == "terminal":
        raise AlreadyTerminal(terms.target, unescape(answer[0]))
    if code == "key_reused":
        raise IdempotencyKeyReused(
            f"idempotency key {terms.idempotency_key!r} belongs to cancel {answer[0]}; use another key for this one"
        )
    if code == "too_deep":
        raise TreeTooDeep(f"execution {terms.target} has more than 1,000 ancestors, its gates cannot be checked")
    raise BrokerUnavailable("Redis took more than 30 s between listing the operation and closing its gate; try again")
