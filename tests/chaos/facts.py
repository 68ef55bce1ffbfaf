"""What the broker says: every record of every run as it stands in Redis, and its reports of what is not settled.

Written to `broker.facts` beside the ground truth, one run a line, so that a round can be judged again without Redis.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import broker
from broker.protocol.records import AckRecord, ExecutionRecord, IntentRecord, OperationRecord, stamp
from tests.support.parts import Parts

FILE = "broker.facts"
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Operation:
    cancel_id: str
    scope: str
    target: str
    requested_us: int
    settled_us: int | None
    open: bool


@dataclass(frozen=True, slots=True)
class Execution:
    """`disposition` is None where there is no intent; `start` the number of the newest claim, `acked_start` that of
    which the disposition speaks."""

    parent: str
    registered_us: int
    started_us: int
    start: int
    status: str
    disposition: str | None
    acked_start: int
    settled_us: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """`named` is every straggler that an open operation's report names, with its cause."""

    run_id: str
    operations: tuple[Operation, ...]
    executions: dict[str, Execution]
    named: dict[str, str]
    log: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, raw: str) -> Self:
        fields: dict[str, Any] = json.loads(raw)
        return cls(
            fields["run_id"],
            tuple(Operation(**one) for one in fields["operations"]),
            {name: Execution(**one) for name, one in fields["executions"].items()},
            fields["named"],
            tuple(fields["log"]),
        )


def read_facts(folder: Path) -> dict[str, RunFacts]:
    lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    return {facts.run_id: facts for facts in map(RunFacts.parse, lines)}


async def write_facts(folder: Path, parts: Parts, control: broker.Broker, run_ids: Iterable[str]) -> None:
    """Reads all of these runs, some at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def read(run_id: str) -> str:
        async with room:
            return json.dumps(asdict(await _facts_of(parts, control, run_id)), separators=(",", ":"))

    lines = await asyncio.gather(*map(read, run_ids))
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


async def _facts_of(parts: Parts, control: broker.Broker, run_id: str) -> RunFacts:
    operations = await parts.reads.operations(run_id)
    reports = [await _report(control, run_id, one.cancel_id) for one in operations if one.state == "open"]
    named = {one.execution_id: one.cause.value for report in reports for one in report.still_running}
    executions, intents, acks, log = await asyncio.gather(
        parts.reads.executions(run_id), parts.reads.intents(run_id), parts.reads.acks(run_id), _log_of(parts, run_id)
    )
    return RunFacts(
        run_id,
        tuple(_operation(one) for one in operations),
        {one: _execution(record, intents.get(one), acks.get(one)) for one, record in executions.items()},
        named,
        tuple(log),
    )


async def _report(control: broker.Broker, run_id: str, cancel_id: str) -> broker.CancelReport:
    """A cancel of what nobody knew yet may stand against an execution without a run."""
    if run_id.startswith("@"):
        return await control.report_execution(run_id[1:])
    return await control.report(run_id, cancel_id)


async def _log_of(parts: Parts, run_id: str) -> list[str]:
    entries = await parts.backend.commands.command("XRANGE", parts.backend.run(run_id).log, "-", "+")
    return [f"{entry_id} {' '.join(fields)}" for entry_id, fields in entries]


def _operation(record: OperationRecord) -> Operation:
    return Operation(
        record.cancel_id, record.scope.value, record.target, record.requested_at_us, record.settled_at_us,
        record.state == "open",
    )  # fmt: skip


def _execution(record: ExecutionRecord, intent: IntentRecord | None, ack: AckRecord | None) -> Execution:
    return Execution(
        record.parent_execution_id,
        stamp(record.registered_at_us) or 0,
        stamp(record.started_at_us) or 0,
        int(record.start or 0),
        record.raw_status,
        None if intent is None else "asked" if ack is None else ack.disposition,
        0 if ack is None else int(ack.start or 0),
        None if ack is None else stamp(ack.settled_at_us),
        "" if ack is None else ack.detail,
    )
