"""The operator who knows: whoever died and has no successor of the same id is declared dead, once its heart is still.

Workers with an id of their own are left alone: there the start of the next process is the proof.
"""

from __future__ import annotations

from pathlib import Path

import broker
from broker.store.claims import Claims
from tests.chaos.truth import TruthFile, read_file
from tests.support.wait import spread

EVERY_S = 1.0


class Undertaker:
    """`take` is told of deaths; `keep` declares them as soon as that is allowed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._truth = TruthFile(folder / "undertaker.jsonl")
        self._dead: list[tuple[str, int, int]] = []

    def take(self, name: str, pid: int) -> None:
        """`name` is that of the process's file; one that never became a worker has nothing to declare."""
        for line in read_file(self._folder / f"{name}.jsonl"):
            if line.word == "process":
                worker_id, incarnation, _ = line.rest
                self._dead.append((str(worker_id), int(incarnation), pid))
                return

    async def keep(self, claims: Claims) -> None:
        while True:
            await self.declare(claims)
            await spread(EVERY_S)

    async def declare(self, claims: Claims) -> bool:
        """One round; True where nobody is left to be declared."""
        dead, self._dead = self._dead, []
        for worker_id, incarnation, pid in dead:
            try:
                await claims.declare_dead(worker_id, incarnation, "chaos")
            except (broker.WorkerAlive, broker.BrokerUnavailable):
                self._dead.append((worker_id, incarnation, pid))
            else:
                self._truth.write("declared_dead", worker_id, incarnation, pid)
        return not self._dead

    def close(self) -> None:
        self._truth.close()
