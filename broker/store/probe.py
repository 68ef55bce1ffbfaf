"""Whether this process can work: Redis answers, the scripts are there, the listener is confirmed."""

from __future__ import annotations

from broker.errors import BrokerError
from broker.store.backend import Backend
from broker.store.subscriptions import Subscriptions

OK = "ok"
PATIENCE_S = 1.0


class Probe:
    """Looks at one Redis. Nothing of a run is read or written."""

    def __init__(self, backend: Backend, subscriptions: Subscriptions) -> None:
        self._backend = backend
        self._subscriptions = subscriptions

    async def check(self) -> dict[str, str]:
        """For each part "ok", or what is wrong. Takes a second at most."""
        state = self._subscriptions.state
        return {
            "redis": await self._answers(),
            "scripts": await self._scripts(),
            "listener": OK if state.status == "connected" else f"{state.status}: {state.reason or 'not confirmed'}",
        }

    async def _answers(self) -> str:
        try:
            await self._backend.commands.command("PING", patience_s=PATIENCE_S)
        except BrokerError as error:
            return str(error)
        return OK

    async def _scripts(self) -> str:
        """Loads what a restart has dropped: the first call would do that too, in one round trip more."""
        scripts, command = self._backend.scripts.all(), self._backend.commands.command
        try:
            there = await command("SCRIPT", "EXISTS", *(one.sha for one in scripts), patience_s=PATIENCE_S)
            for script, loaded in zip(scripts, there, strict=True):
                if not loaded:
                    await command("SCRIPT", "LOAD", script.source, patience_s=PATIENCE_S)
        except BrokerError as error:
            return str(error)
        return OK
