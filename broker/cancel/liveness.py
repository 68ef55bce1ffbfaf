"""Who holds what is not settled, and whether they are known to be gone.

`lost` comes from a proof only: the incarnation that holds the claim is below the counter of its worker id,
because a newer process has started or somebody declared it dead. The proof is a state: every look at an open
operation reads it again, so an ack that took a loss back does not keep an operation open for ever. An expired
heartbeat is no proof (DESIGN section 3). A worker that is alive and has not answered is asked whether it holds
what it was told to stop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.observe.events import EXECUTION_LOST
from broker.observe.log import get_logger
from broker.protocol.records import AckRecord, ExecutionRecord
from broker.protocol.states import Disposition
from broker.store.claims import Claims, Holder, Loss
from broker.store.operations import CHUNK
from broker.store.reads import Reads, WorkerState

log = get_logger("broker.cancel")


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What is told and not settled, as one read found it: the claims, what was said, and the workers."""

    records: Mapping[str, ExecutionRecord]
    acks: Mapping[str, AckRecord]
    worker_of_slot: Mapping[str, str]
    workers: Mapping[str, WorkerState]

    def worker_of(self, execution_id: str) -> WorkerState | None:
        """The worker that has the open claim, None where there is none."""
        record = self.records.get(execution_id)
        return self.workers.get(self.worker_of_slot.get(record.slot, "")) if record and record.claimed else None

    def is_heard(self, execution_id: str) -> bool:
        """Its worker has said that it heard, and lives."""
        ack, worker = self.acks.get(execution_id), self.worker_of(execution_id)
        return ack is not None and Disposition(ack.disposition).rank == 1 and worker is not None and worker.alive

    def by_holder(self, execution_ids: Iterable[str]) -> dict[Holder, list[str]]:
        """Those that are claimed, under the process that claimed them."""
        found: defaultdict[Holder, list[str]] = defaultdict(list)
        for one in execution_ids:
            if worker := self.worker_of(one):
                found[Holder(worker.worker_id, int(self.records[one].incarnation))].append(one)
        return dict(found)


class Liveness:
    """Settles what is proved lost, and asks the living."""

    def __init__(self, reads: Reads, claims: Claims) -> None:
        self._reads = reads
        self._claims = claims

    async def look(self, run_id: str, execution_ids: Sequence[str]) -> Unsettled:
        """Reads who holds these, and the hearts and counters of those workers."""
        if not execution_ids:
            return Unsettled({}, {}, {}, {})
        records, acks, slots = await asyncio.gather(
            self._reads.some_executions(run_id, execution_ids),
            self._reads.some_acks(run_id, execution_ids),
            self._reads.worker_ids(run_id),
        )
        holding = {slots[record.slot] for record in records.values() if record.slot in slots}
        return Unsettled(records, acks, slots, await self._reads.workers(holding))

    async def lose(self, run_id: str, unsettled: Unsettled) -> None:
        """Settles as lost what is held by processes that are proved gone."""
        for holder, execution_ids in unsettled.by_holder(unsettled.records).items():
            proof = unsettled.workers[holder.worker_id].proof_against(holder.incarnation)
            if proof is not None:
                losses = [Loss(one, int(unsettled.records[one].start), proof) for one in execution_ids]
                codes = await self._claims.lose(run_id, holder, losses)
                log.warning(
                    EXECUTION_LOST, run_id=run_id, worker_id=holder.worker_id, incarnation=holder.incarnation,
                    proof=proof, executions=codes.count("lost"),
                )  # fmt: skip

    async def ask(self, run_id: str, unsettled: Unsettled, execution_ids: Sequence[str]) -> None:
        """Asks the workers that live and have said nothing of these whether they hold them at all.

        So a `start` whose answer was lost ends: it claimed for a process that knows nothing of it.
        """
        silent = [one for one in execution_ids if one not in unsettled.acks]
        for holder, held in unsettled.by_holder(silent).items():
            if holder.incarnation and unsettled.workers[holder.worker_id].beating == holder.incarnation:
                claims = [(one, int(unsettled.records[one].start)) for one in held]
                for at in range(0, len(claims), CHUNK):
                    await self._claims.ask(run_id, holder, claims[at : at + CHUNK])
