"""How many replicas have an accepted cancel: WAIT, or WAITAOF where the server has it (trap T8).

WAIT holds up its connection, so it has one of its own: only those who ask for it wait behind each other. It speaks
of what was written on the same connection, so each question begins with a write that proves that the operation is
there, and counts only if the connection is still the same one afterwards.
"""

from __future__ import annotations

import asyncio

from broker.errors import BrokerError, StoreRefused
from broker.observe.events import REPLICATION_FAILED, REPLICATION_UNKNOWN, REPLICATION_WAITAOF_REFUSED
from broker.observe.log import get_logger
from broker.protocol.records import Durability
from broker.store.backend import Backend

log = get_logger("broker.store")

LONGEST_MS = 1000
ATTEMPTS = 3


class Replication:
    """Asks for `wanted` replicas, at most a second; a backend of its own, which `close` ends."""

    def __init__(self, backend: Backend, wanted: int) -> None:
        self._backend = backend
        self._wanted = wanted
        self._has_waitaof = True

    async def confirm(self, run_id: str, cancel_id: str) -> Durability:
        """How many have it, and everything that was written before this call. Raises nothing: unknown is 0."""
        commands = self._backend.commands
        try:
            for _ in range(ATTEMPTS):
                writing = self._backend.on_run(self._backend.scripts.confirm, run_id, cancel_id=cancel_id)
                waiting = asyncio.ensure_future(self._wait())
                (code, *_), reached = await asyncio.gather(writing, waiting)
                if code == "confirmed" and reached is not None:
                    return Durability(self._wanted, reached)
            log.warning(REPLICATION_UNKNOWN, cancel_id=cancel_id, connects=commands.connects)
        except BrokerError as error:
            log.warning(REPLICATION_FAILED, cancel_id=cancel_id, error=str(error))
        return Durability(self._wanted, 0)

    async def _wait(self) -> int | None:
        """Replicas that have what was written on this connection; None where it was replaced meanwhile."""
        commands = self._backend.commands
        before = commands.connects
        reached = await self._ask()
        return reached if commands.connects == max(before, 1) else None

    async def _ask(self) -> int:
        wanted, command = str(self._wanted), self._backend.commands.command
        if self._has_waitaof:
            try:
                _, replicas = await command("WAITAOF", "1", wanted, LONGEST_MS)
                return int(replicas)
            except StoreRefused as error:  # older than 7.2, or no append-only file here
                self._has_waitaof = False
                log.info(REPLICATION_WAITAOF_REFUSED, error=str(error))
        return int(await command("WAIT", wanted, LONGEST_MS))

    async def close(self) -> None:
        await self._backend.close()
