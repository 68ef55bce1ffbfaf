"""Applies events of one run, in stream order, with as few script calls as possible. All of it is idempotent."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

from broker.cancel.engine import Engine
from broker.errors import (
    AlreadyTerminal,
    BrokerUnavailable,
    ExecutionInOtherRun,
    IdempotencyKeyReused,
    InvalidInput,
    StoreRefused,
    TreeTooDeep,
)
from broker.ingest.reading import Refusal
from broker.ingest.translate import (
    Said,
    Sourced,
    ack_of,
    are_acks,
    are_reports,
    cancel_terms_of,
    claim_of,
    holder_of,
    steps,
)
from broker.observe.events import INGEST_CANCEL_ACCEPTED, INGEST_CANCEL_TERMINAL, INGEST_REFUSED
from broker.observe.log import get_logger
from broker.protocol.events import AckEvent, CancelRequested
from broker.protocol.names import lone_run
from broker.protocol.states import Scope
from broker.store.backend import Backend
from broker.store.claims import Claims, Holder
from broker.store.operations import CHUNK, CHUNKS_IN_FLIGHT, CancelTerms
from broker.store.reports import Report, report

log = get_logger("broker.ingest")

REMEMBERED_LIMIT = 100_000  # executions, of which the newest are asked for again
_PASSING = ("OOM", "READONLY", "LOADING", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY",
            "NOPERM", "NOAUTH", "WRONGPASS", "UNKILLABLE")  # fmt: skip
"""What Redis refuses because of its own state, not because of what it was given: that passes."""


class _Run(NamedTuple):
    """A run, and what takes the present batch there."""

    run_id: str
    backend: Backend
    claims: Claims


class Applier:
    """Events of any runs; the caller sees to it that those of one run come one batch after the other.

    The batches take `backends` in turn: while Redis works for one, the answers of another are read.
    """

    def __init__(self, backends: Sequence[Backend], engine: Engine) -> None:
        self._claims = Claims(backends[0])
        self._connections = cycle([(backend, Claims(backend)) for backend in backends])
        self._engine = engine
        self._indexed: OrderedDict[str, str] = OrderedDict()
        self._named: OrderedDict[str, str] = OrderedDict()

    async def runs_of(self, named: Sequence[str], events: Sequence[Sourced[Said]]) -> list[str]:
        """The run of each event: the one that it names, else what is known of the execution, else its own.

        What the stream said shortly before counts as known, also where it is not applied yet.
        """
        runs = list(named)
        silent: dict[int, str] = {}
        for position, ((_, execution_id, _), run_id) in enumerate(zip(events, named, strict=True)):
            if run_id:
                self._named[execution_id] = run_id
            elif execution_id in self._named:
                runs[position] = self._named[execution_id]
            else:
                silent[position] = execution_id
        if silent:
            found = await asyncio.gather(*(self._claims.run_of(one) for one in silent.values()))
            for (position, one), known in zip(silent.items(), found, strict=True):
                runs[position] = known or lone_run(one)
        _shorten(self._named)
        return runs

    def forget(self) -> None:
        """Redis was away, and may have lost what it had: the index is written again."""
        self._indexed.clear()
        self._named.clear()

    async def apply(self, run_id: str, batch: Sequence[Sourced[Said]]) -> dict[str, Refusal]:
        """Applies what can be applied; answers what cannot, by entry id.

        Raises BrokerUnavailable, and StoreRefused for a refusal that passes: then it is not known what was
        applied, and the whole batch is to be applied again.
        """
        try:
            return await self._apply(_Run(run_id, *next(self._connections)), batch)
        except BrokerUnavailable:
            raise
        except Exception as error:
            if isinstance(error, StoreRefused) and _passes(error):
                raise
            if len(batch) == 1:
                log.error(INGEST_REFUSED, entry_id=batch[0].entry_id, kind=type(error).__name__, error=str(error))
                return {batch[0].entry_id: Refusal(getattr(error, "code", "internal_error"), str(error))}
        refused: dict[str, Refusal] = {}
        for one in batch:
            refused |= await self.apply(run_id, [one])
        return refused

    async def _apply(self, run: _Run, batch: Sequence[Sourced[Said]]) -> dict[str, Refusal]:
        refused = await self._index(run, batch)
        ours = [one for one in batch if one.entry_id not in refused] if refused else batch
        for step in steps(ours):
            refused |= await self._take_step(run, step)
        return refused

    async def _take_step(self, run: _Run, step: Sequence[Sourced[Said]]) -> dict[str, Refusal]:
        if are_reports(step):
            return await self._report(run, step)
        if are_acks(step):
            return await self._acknowledge(run, step)
        refused: dict[str, Refusal] = {}
        for one in step:
            if isinstance(one.said, CancelRequested):
                refused |= await self._accept(run.run_id, one.entry_id, cancel_terms_of(one.said))
        return refused

    async def _index(self, run: _Run, batch: Sequence[Sourced[Said]]) -> dict[str, Refusal]:
        """Notes where each execution lives, before it is recorded there; once for each, as long as it is remembered."""
        indexed = self._indexed
        new = list(dict.fromkeys(one for _, one, _ in batch if one and indexed.get(one) != run.run_id))
        if not new:
            return {}
        elsewhere = await run.claims.index(run.run_id, new)
        indexed.update((one, run.run_id) for one in new if one not in elsewhere)
        _shorten(indexed)
        return {
            entry_id: Refusal(
                ExecutionInOtherRun.code, f"execution {one} lives in run {elsewhere[one]}, not {run.run_id}"
            )
            for entry_id, one, _ in batch
            if one in elsewhere
        }

    # --- statuses -----------------------------------------------------------------------------------------

    async def _report(self, run: _Run, step: Sequence[Sourced[Report]]) -> dict[str, Refusal]:
        refused: dict[str, Refusal] = {}
        codes = await self._report_chunks(run, [one.said for one in step])
        for one, code in zip(step, codes, strict=True):
            if code == "cancel_wanted":
                terms = CancelTerms(Scope.EXECUTION, one.execution_id, allow_unknown=True)
                refused |= await self._accept(run.run_id, one.entry_id, terms)
            elif code in _REFUSED:
                refused[one.entry_id] = _REFUSED[code]
        return refused

    async def _report_chunks(self, run: _Run, reports: Sequence[Report]) -> list[str]:
        """Chunks of one step are under way together: the connection keeps their order."""
        if len(reports) <= CHUNK:
            return await report(run.backend, run.run_id, reports)
        chunks = [reports[at : at + CHUNK] for at in range(0, len(reports), CHUNK)]
        codes: list[str] = []
        for at in range(0, len(chunks), CHUNKS_IN_FLIGHT):
            calls = (report(run.backend, run.run_id, chunk) for chunk in chunks[at : at + CHUNKS_IN_FLIGHT])
            codes += [code for answer in await asyncio.gather(*calls) for code in answer]
        return codes

    # --- acks ---------------------------------------------------------------------------------------------

    async def _acknowledge(self, run: _Run, step: Sequence[Sourced[AckEvent]]) -> dict[str, Refusal]:
        codes = await self._ack(run, step)
        unclaimed = [one for one in step if codes[one.entry_id] in ("not_found", "late")]
        if unclaimed:
            codes |= await self._claim_and_ack(run, unclaimed)
        return await self._end_uncancelled(run, [one for one in step if codes[one.entry_id] == "not_cancelled"])

    async def _ack(self, run: _Run, step: Sequence[Sourced[AckEvent]]) -> dict[str, str]:
        """Entry id → EACH word of ack.lua; a worker's acks go together."""
        codes: dict[str, str] = {}
        calls = []
        by_holder: dict[Holder, list[Sourced[AckEvent]]] = {}
        for one in step:
            by_holder.setdefault(holder_of(one), []).append(one)
        for holder, said in by_holder.items():
            for at in range(0, len(said), CHUNK):
                some = said[at : at + CHUNK]
                calls.append((some, run.claims.ack(run.run_id, holder, [ack_of(one) for one in some])))
        for (some, _), answer in zip(calls, await asyncio.gather(*(call for _, call in calls)), strict=True):
            codes.update(zip((one.entry_id for one in some), answer, strict=True))
        return codes

    async def _claim_and_ack(self, run: _Run, step: Sequence[Sourced[AckEvent]]) -> dict[str, str]:
        """An ack of a claim whose start has not been read yet: it is the evidence of it."""
        await self._report_chunks(run, [claim_of(one) for one in step])
        return await self._ack(run, step)

    async def _end_uncancelled(self, run: _Run, step: Sequence[Sourced[AckEvent]]) -> dict[str, Refusal]:
        """There is no cancel to acknowledge: an end is taken for what it is, any other word has no meaning."""
        ends = [claim_of(one, end=True) for one in step if one.said.settles]
        if ends:
            await self._report_chunks(run, ends)
        others = [one for one in step if not one.said.settles]
        return {one.entry_id: Refusal("not_cancelled", "there is no cancel of this execution") for one in others}

    # --- cancels ------------------------------------------------------------------------------------------

    async def _accept(self, run_id: str, entry_id: str, terms: CancelTerms) -> dict[str, Refusal]:
        """Durable when this returns; told behind it, by this process or by any other."""
        try:
            operation = await self._engine.accept(run_id, terms)
        except AlreadyTerminal as error:
            log.info(INGEST_CANCEL_TERMINAL, run_id=run_id, execution_id=terms.target, status=error.status)
            return {}
        except (IdempotencyKeyReused, TreeTooDeep, InvalidInput) as error:
            return {entry_id: Refusal(error.code, str(error))}
        log.info(INGEST_CANCEL_ACCEPTED, run_id=run_id, cancel_id=operation.cancel_id, scope=terms.scope)
        return {}


_REFUSED = {
    "parent_conflict": Refusal("parent_conflict", "known under another parent; all but the parent was applied"),
    "too_deep": Refusal(TreeTooDeep.code, "more than 1,000 ancestors under a subtree gate; nothing was applied"),
}


def _shorten(remembered: OrderedDict[str, str]) -> None:
    while len(remembered) > REMEMBERED_LIMIT:
        remembered.popitem(last=False)


def _passes(error: StoreRefused) -> bool:
    return any(word in str(error) for word in _PASSING)
