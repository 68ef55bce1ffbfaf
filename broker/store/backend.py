"""What every part of the store needs: the command connection, the scripts, the names of the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.store.commands import Commands
from broker.store.keys import Keys, Lifetimes, RunKeys
from broker.store.scripts import Script, Scripts

FIELDS_A_READ = 500


@dataclass(frozen=True, slots=True)
class Backend:
    """One Redis, one event loop."""

    commands: Commands
    keys: Keys
    scripts: Scripts
    lifetimes: Lifetimes

    @classmethod
    def connect(
        cls, url: str, *, namespace: str, lifetimes: Lifetimes, timeout_s: float, client_name: str = "broker"
    ) -> Backend:
        """Opens nothing yet: the connection is made with the first command."""
        commands = Commands(url, timeout_s=timeout_s, client_name=client_name)
        return cls(commands, Keys(namespace), Scripts(lifetimes), lifetimes)

    def run(self, run_id: str) -> RunKeys:
        return self.keys.run(run_id)

    def on_run(
        self, script: Script, run_id: str, /, *repeated: str, patience_s: float | None = None, **arguments: str
    ) -> asyncio.Future[Any]:
        """Queues a script on all keys of a run."""
        return self.commands.call(script, self.keys.run(run_id), *repeated, patience_s=patience_s, **arguments)

    async def fields(self, key: str, names: Sequence[str]) -> dict[str, str]:
        """Those fields of a hash that there are, 500 in one read."""
        asked = [
            self.commands.command("HMGET", key, *names[at : at + FIELDS_A_READ])
            for at in range(0, len(names), FIELDS_A_READ)
        ]
        answers = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        values = (value for page in answers for value in page)
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    async def close(self) -> None:
        await self.commands.close()
