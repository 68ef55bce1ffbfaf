"""The verbs of those who run things: register, start, finish, ack, heartbeat, and reading intents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from broker.errors import ExecutionInOtherRun
from broker.protocol.records import ExecutionRecord, IntentRecord, escape, unescape
from broker.store.backend import Backend
from broker.store.groups import Groups
from broker.store.hearts import COUNTER_S, Hearts
from broker.store.hearts import Holder as Holder  # noqa: PLC0414 - who speaks belongs to what is said
from broker.store.operations import CHUNK, CHUNKS_IN_FLIGHT
from broker.store.reports import Report, event_stamp, report

RECORDED_WITHIN_S = 60  # between the index entry of an execution and its record
FOR_EVER = float("inf")  # what was done is said until it is accepted (trap T25)


class Registration(NamedTuple):
    """One execution to be recorded; empty text where unknown, `started_at_us` as decimal text."""

    execution_id: str
    status: str = "pending"
    parent_execution_id: str = ""
    agent_node_id: str = ""
    reasoner_id: str = ""
    started_at_us: str = ""


class StartAnswer(NamedTuple):
    """Answer of `start`; `code` is a RETURNS word of start.lua.

    `start` is the number of the claim (0: none), `word` the epoch, status, holder or cancel id that goes
    with the code.
    """

    code: str
    start: int
    word: str


class End(NamedTuple):
    """How a claim ended: the outcome as reported, and how far the cancel had to do with it."""

    execution_id: str
    start: int
    status: str
    disposition: str
    detail: str = ""


class Claim(NamedTuple):
    """What a worker holds, or held until its end: enough to write it again after a data loss."""

    execution_id: str
    parent_execution_id: str
    reasoner_id: str
    start: int


class Ack(NamedTuple):
    """What a worker says of one execution; `seq` rises with every ack of one claim."""

    execution_id: str
    start: int
    seq: int
    disposition: str
    outcome: str = ""
    detail: str = ""


class Loss(NamedTuple):
    """A claim that is proved gone, and the proof in words."""

    execution_id: str
    start: int
    proof: str


class Claims(Hearts):
    """Executions and who holds them."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._starts = Groups(self._start_group, CHUNK)
        self._ends = Groups(self._finish_group, CHUNK)

    async def index(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, str]:
        """Notes which run each execution belongs to, before it is recorded there.

        Answers the ids that live in another run: id → that run.
        """
        notes = [self._note(run_id, one) for one in execution_ids]
        pages = [notes[at : at + CHUNK] for at in range(0, len(notes), CHUNK)]
        answers = await asyncio.gather(*(self._backend.commands.several(page) for page in pages))
        known = zip(execution_ids, (run for page in answers for run in page), strict=True)
        others = {one: run for one, run in known if run is not None and run != run_id}
        return {one: run for one, run in others.items() if not await self._take_over(one, run, run_id)}

    def note(self, run_id: str, execution_id: str) -> asyncio.Future[str | None]:
        """Queues the note of one. Its answer is the run that it belonged to before: another one is for `index`."""
        return self._backend.commands.command(*self._note(run_id, execution_id))

    def _note(self, run_id: str, execution_id: str) -> tuple[str | int, ...]:
        key, seconds = self._backend.keys.execution(execution_id), self._backend.lifetimes.index_s
        return ("SET", key, run_id, "NX", "GET", "EX", seconds)

    async def _take_over(self, execution_id: str, known: str, run_id: str) -> bool:
        """The index is only a hint: a run whose keys have ended does not own the id any more.

        One that was written just now is somebody's who is about to record the execution there: taken from under
        them, it would stand in two runs, and a cancel in one of them would settle what runs in the other.
        """
        commands, keys, seconds = self._backend.commands, self._backend.keys, self._backend.lifetimes.index_s
        left_s = int(await commands.command("TTL", keys.execution(execution_id)))
        if left_s > seconds - RECORDED_WITHIN_S:
            return False
        if await commands.command("HEXISTS", keys.run(known).executions, execution_id):
            return False
        await commands.command("SET", keys.execution(execution_id), run_id, "EX", seconds)
        return True

    async def run_of(self, execution_id: str) -> str | None:
        """The run that an execution belongs to, verified against that run; None where it is not known."""
        known = await self.indexed_run_of(execution_id)
        if known is None:
            return None
        exists = await self._backend.commands.command("HEXISTS", self._backend.run(known).executions, execution_id)
        return known if exists else None

    async def indexed_run_of(self, execution_id: str) -> str | None:
        """The same, not verified: for who asks that run next and is refused where it does not know the execution."""
        known = await self._backend.commands.command("GET", self._backend.keys.execution(execution_id))
        return None if known is None else str(known)

    async def register(self, run_id: str, executions: Sequence[Registration]) -> dict[str, str]:
        """Records executions: id → EACH word of register.lua, or `execution_in_other_run`."""
        elsewhere = await self.index(run_id, [one.execution_id for one in executions])
        codes = dict.fromkeys(elsewhere, ExecutionInOtherRun.code)
        ours = [one for one in executions if one.execution_id not in elsewhere]
        for at in range(0, len(ours), CHUNK * CHUNKS_IN_FLIGHT):
            codes.update(await self._register_some(run_id, ours[at : at + CHUNK * CHUNKS_IN_FLIGHT]))
        return codes

    async def _register_some(self, run_id: str, executions: Sequence[Registration]) -> dict[str, str]:
        chunks = [executions[at : at + CHUNK] for at in range(0, len(executions), CHUNK)]
        answers = await asyncio.gather(*(self._register_chunk(run_id, chunk) for chunk in chunks))
        codes = [code for _, chunk_codes, _ in answers for code in chunk_codes]
        await self._wake(run_id, [cancel_id for _, _, reopened in answers for cancel_id in reopened])
        return dict(zip((one.execution_id for one in executions), codes, strict=True))

    async def _wake(self, run_id: str, cancel_ids: Iterable[str], patience_s: float | None = None) -> None:
        """Reopened operations are due now; the work list lies in another slot than the run."""
        key = self._backend.keys.work_list
        for cancel_id in dict.fromkeys(cancel_ids):
            await self._backend.commands.command("ZADD", key, "0", f"{run_id}|{cancel_id}", patience_s=patience_s)

    def _register_chunk(self, run_id: str, chunk: Sequence[Registration]) -> asyncio.Future[Any]:
        fields = [
            field
            for one in chunk
            for field in (one.execution_id, escape(one.status), *one[2:4], escape(one.reasoner_id), one.started_at_us)
        ]
        return self._backend.on_run(
            self._backend.scripts.register,
            run_id,
            *fields,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
        )

    def start(
        self, run_id: str, what: Registration, holder: Holder, supersedes: str = ""
    ) -> asyncio.Future[StartAnswer]:
        """Claims or tells. The caller has noted the execution in the index before (`index`)."""
        return self._starts.add((run_id, holder, what.agent_node_id), (what, supersedes))

    async def _start_group(
        self, key: tuple[str, Holder, str], group: Sequence[tuple[Registration, str]]
    ) -> list[StartAnswer]:
        run_id, holder, agent_node_id = key
        fields = [
            field
            for what, supersedes in group
            for field in (what.execution_id, what.parent_execution_id, escape(what.reasoner_id), supersedes)
        ]
        _, reopened, *flat = await self._backend.on_run(
            self._backend.scripts.start,
            run_id,
            *fields,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            worker_id=holder.worker_id,
            incarnation=str(holder.incarnation),
            agent_node=agent_node_id,
        )
        await self._wake(run_id, reopened)
        answers = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
        return [StartAnswer(code, int(number), unescape(word)) for code, number, word in answers]

    def finish(self, run_id: str, holder: Holder, end: End, *, patience_s: float = FOR_EVER) -> asyncio.Future[str]:
        """The holder's end of an execution; the future has an EACH word of finish.lua."""
        return self._ends.add((run_id, holder, patience_s), end)

    async def _finish_group(self, key: tuple[str, Holder, float], group: Sequence[End]) -> list[str]:
        run_id, holder, patience_s = key
        return await self.finish_chunk(run_id, holder, group, patience_s=patience_s)

    async def finish_chunk(self, run_id: str, holder: Holder, ends: Sequence[End], *, patience_s: float) -> list[str]:
        """The holder's ends of at most 100 executions, in one call: an EACH word of finish.lua for each."""
        fields = [
            field
            for end in ends
            for field in (end.execution_id, str(end.start), escape(end.status), end.disposition, escape(end.detail))
        ]
        _, *codes = await self._backend.on_run(
            self._backend.scripts.finish,
            run_id,
            *fields,
            patience_s=patience_s,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            worker_id=holder.worker_id,
            incarnation=str(holder.incarnation),
        )
        return [str(code) for code in codes]

    async def restore(self, run_id: str, holder: Holder, agent_node_id: str, claims: Sequence[Claim]) -> dict[str, str]:
        """Says at most 100 claims again that Redis may have lost: id → an EACH word of restore.lua."""
        await self._backend.commands.command(
            "SET", self._backend.keys.incarnation(holder.worker_id), holder.incarnation, "NX", "EX", COUNTER_S
        )
        await self.index(run_id, [one.execution_id for one in claims])
        fields = [
            field
            for one in claims
            for field in (one.execution_id, one.parent_execution_id, escape(one.reasoner_id), str(one.start))
        ]
        _, reopened, *codes = await self._backend.on_run(
            self._backend.scripts.restore,
            run_id,
            *fields,
            run_id=run_id,
            channels=self._backend.keys.channels(run_id),
            worker_id=holder.worker_id,
            incarnation=str(holder.incarnation),
            agent_node=agent_node_id,
        )
        await self._wake(run_id, reopened)
        return dict(zip((one.execution_id for one in claims), codes, strict=True))

    async def ack(
        self, run_id: str, holder: Holder, acks: Sequence[Ack], *, patience_s: float | None = None
    ) -> list[str]:
        """Records what a worker says of at most 100 executions; an EACH word of ack.lua for each."""
        fields = [
            field
            for ack in acks
            for field in (
                ack.execution_id,
                holder.worker_id,
                str(holder.incarnation),
                str(ack.start),
                str(ack.seq),
                ack.disposition,
                escape(ack.outcome),
                escape(ack.detail),
            )
        ]
        _, reopened, *codes = await self._backend.on_run(
            self._backend.scripts.ack,
            run_id,
            *fields,
            patience_s=patience_s,
            channels=self._backend.keys.channels(run_id),
        )
        await self._wake(run_id, reopened, patience_s)
        return [str(code) for code in codes]

    async def lose(
        self, run_id: str, holder: Holder, losses: Sequence[Loss], *, patience_s: float | None = None
    ) -> list[str]:
        """Settles as lost what that holder had claimed and is proved to have no more: EACH words of lose.lua.

        A claim that is not exactly this one is left alone. Takes any number; 100 go in one script call.
        """
        codes: list[str] = []
        for at in range(0, len(losses), CHUNK):
            claims = [
                (one.execution_id, holder.worker_id, str(holder.incarnation), str(one.start), escape(one.proof))
                for one in losses[at : at + CHUNK]
            ]
            _, *answered = await self._backend.on_run(
                self._backend.scripts.lose,
                run_id,
                *(field for claim in claims for field in claim),
                patience_s=patience_s,
                channels=self._backend.keys.channels(run_id),
            )
            codes += answered
        return codes

    async def report_status(self, run_id: str, execution_id: str, status: str) -> str:
        """What someone says now who does not hold the execution; an EACH word of report_status.lua."""
        seconds, microseconds = await self._backend.commands.command("TIME")
        stamp = event_stamp(int(seconds) * 1_000_000 + int(microseconds))
        (code,) = await report(self._backend, run_id, [Report(execution_id, status, stamp=stamp)])
        return code

    async def intents(self, run_id: str, execution_ids: Iterable[str]) -> dict[str, IntentRecord]:
        """The durable cancels of those that have one."""
        found = await self._backend.fields(self._backend.run(run_id).intents, list(execution_ids))
        # What one script call has told differs in nothing, or in the start number: each text is parsed once.
        records = {raw: IntentRecord.parse(raw) for raw in set(found.values())}
        return {one: records[raw] for one, raw in found.items()}

    async def records(self, run_id: str, execution_ids: Sequence[str]) -> dict[str, ExecutionRecord]:
        """What is known of each; `start` is the number of its newest claim, open or not."""
        found = await self._backend.fields(self._backend.run(run_id).executions, execution_ids)
        return {one: ExecutionRecord.parse(raw) for one, raw in found.items()}

    def operation_text(self, run_id: str, cancel_id: str) -> asyncio.Future[str | None]:
        """Queues the read of an operation; `OperationRecord.parse` reads its answer, None where there is none."""
        return self._backend.commands.command("HGET", self._backend.run(run_id).cancels, cancel_id)

    async def epochs(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        """The epoch of each run, "0" where nothing was ever cancelled in it."""
        waiting = [self._backend.commands.command("HGET", self._backend.run(run_id).run, "epoch") for run_id in run_ids]
        answers = await asyncio.gather(*waiting)
        return {run_id: epoch or "0" for run_id, epoch in zip(run_ids, answers, strict=True)}

    async def touch(self, run_id: str) -> None:
        """Executions of the run are held: moves the end of its keys."""
        await self._backend.on_run(self._backend.scripts.touch, run_id)
