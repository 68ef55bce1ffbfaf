"""One trial: a program, the proxy it talks through, and a broker that cancels what it runs."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from broker.cancel.views import ExecutionView
from broker.cli.conformance.program import Launch, Program
from broker.cli.conformance.proxy import Proxy, Seen
from broker.control import Broker
from broker.errors import InvalidInput, NotFound
from broker.protocol.registration import Execution
from broker.store.backend import Backend

DISPOSITIONS = ("received", "deferred", "refused", "stopped", "killed", "ended_itself")
SETTLING = DISPOSITIONS[3:]
_LOOK_EVERY_S = 0.01
_SCRIPTS = ("EVAL", "EVALSHA", "FCALL")
_WORDS_OF_ONE = 8
NEVER_MS = 3_600_000


class Broken(Exception):
    """A rule was broken: the text says what was seen. Never leaves this package."""


@dataclass(frozen=True)
class Bench:
    """What all trials share. `patience_s`: how long anything that must come may take."""

    control: Broker
    backend: Backend
    launch: Launch
    namespace: str
    patience_s: float


@dataclass
class Trial:
    """One program with its executions; `env` is what it is told beside the ids."""

    bench: Bench
    executions: Sequence[str]
    env: Mapping[str, str]
    run: str = field(default_factory=lambda: f"conformance-{secrets.token_hex(6)}")
    program: Program | None = None

    def __post_init__(self) -> None:
        self.executions = [f"{self.run}.{one}" for one in self.executions]
        self.control, self.keys = self.bench.control, self.bench.backend.keys
        self._url = urlsplit(self.control.redis_url)
        if self._url.scheme != "redis" or not self._url.hostname:
            raise InvalidInput(
                f"--redis-url {self._url.scheme}://…: allowed is redis://HOST:PORT, which can be listened in"
            )
        self.proxy = Proxy(self._url.hostname, self._url.port or 6379)

    @property
    def one(self) -> str:
        return self.executions[0]

    # --- what happens to the program ----------------------------------------------------------------------

    async def start(self) -> None:
        """Executions are registered, then the program is started."""
        await self.control.register(self.run, [Execution(one) for one in self.executions])
        port = await self.proxy.start()
        user, at, _ = self._url.netloc.rpartition("@")
        url = urlunsplit(self._url._replace(netloc=f"{user}{at}127.0.0.1:{port}"))
        ids = {
            "BROKER_REDIS_URL": url,
            "BROKER_NAMESPACE": self.bench.namespace,
            "BROKER_RUN_ID": self.run,
            "BROKER_EXECUTION_ID": self.one,
            "BROKER_EXECUTION_IDS": " ".join(self.executions),
            "BROKER_WORKER_ID": f"{self.run}-worker",
        }
        self.program = await self.bench.launch({**ids, "BROKER_START": "1", "BROKER_HEARTBEAT_MS": "200", **self.env})

    async def start_and_run(self) -> None:
        await self.start()
        for one in self.executions:
            await self.claimed(one)

    async def end(self) -> None:
        if self.program is not None:
            await self.program.kill()
        await self.proxy.close()

    def channel(self, execution_id: str) -> str:
        return self.keys.cancel_channel(self.run, execution_id)

    async def publish(self, execution_id: str, payload: str) -> None:
        """A message that no broker has sent."""
        await self.bench.backend.commands.command("PUBLISH", self.channel(execution_id), payload)

    def forged(self, execution_id: str, **fields: object) -> str:
        known: dict[str, object] = {"v": 1, "type": "cancel", "cancel_id": "c_forged", "run_id": self.run}
        known |= {"execution_id": execution_id, "start": 1, "source": "cancel_api", "reason": None}
        known |= {"requested_by": None, "published_at_us": 1, "attempt": 1, "deadline_us": 1, "force": False}
        return json.dumps(known | fields)

    # --- what it has done ---------------------------------------------------------------------------------

    def saying(self, execution_id: str) -> list[tuple[Seen, str]]:
        """What it said of an execution: `started`, a disposition, or `ended`, with the command that said it."""
        found: list[tuple[Seen, str]] = []
        for seen in self.proxy.seen:
            if not seen.is_push:
                word = self._word(seen.words, execution_id)
                if word == "started" and any(known == "started" for _, known in found):
                    continue
                if word:
                    found.append((seen, word))
        return found

    def said(self, execution_id: str) -> list[str]:
        return [word for _, word in self.saying(execution_id)]

    def _word(self, words: Sequence[str], execution_id: str) -> str:
        verb = words[0].upper() if words else ""
        if verb == "XADD":
            return _word_of_event(words[-1], execution_id)
        if verb not in _SCRIPTS or execution_id not in words:
            return ""
        at = words.index(execution_id) + 1
        about = words[at : at + _WORDS_OF_ONE]
        others = [about.index(one) for one in self.executions if one in about]
        return next((one for one in about[: min(others, default=len(about))] if one in DISPOSITIONS), "started")

    def pushes(self, kind: str, execution_id: str) -> list[Seen]:
        channel = self.channel(execution_id)
        return [one for one in self.proxy.seen if one.is_push and one.words[:2] == (kind, channel)]

    def asked(self, verb: str, execution_id: str) -> list[Seen]:
        """Commands such as SUBSCRIBE with the channel of this execution among their words."""
        channel = self.channel(execution_id)
        commands = (one for one in self.proxy.seen if not one.is_push and one.words)
        return [one for one in commands if one.words[0].upper() == verb and channel in one.words[1:]]

    # --- waiting ------------------------------------------------------------------------------------------

    async def until(self, predicate: Callable[[], bool], what: str) -> None:
        """Raises Broken, with what did not come."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.bench.patience_s
        while not predicate():
            if loop.time() > give_up_at:
                raise Broken(f"{what} did not come within {self.bench.patience_s:g} s")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def view(self, execution_id: str) -> ExecutionView | None:
        try:
            return await self.control.execution(execution_id)
        except NotFound:
            return None

    async def claimed(self, execution_id: str, start: int = 1) -> None:
        await self._state(
            execution_id,
            lambda view: view.claim is not None and view.claim.start == start,
            f"its start (number {start})",
        )

    async def stopped(self, execution_id: str) -> None:
        """Its holder has said that it has stopped; an intent stands against it."""
        await self._state(
            execution_id, lambda view: view.disposition == "stopped" and view.claim is None, "`stopped` from its holder"
        )

    async def ended(self, execution_id: str) -> None:
        """The end is recorded, with or without a cancel."""
        await self._state(execution_id, lambda view: view.claim is None and view.status == "succeeded", "its end")

    async def _state(self, execution_id: str, is_so: Callable[[ExecutionView], bool], what: str) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.bench.patience_s
        while True:
            view = await self.view(execution_id)
            if view is not None and is_so(view):
                return
            if loop.time() > give_up_at:
                known = f"status {view.status}, disposition {view.disposition or 'none'}" if view else "not known"
                raise Broken(f"{what} did not come within {self.bench.patience_s:g} s; the broker has: {known}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def left(self) -> None:
        """The program has nothing left to run, and leaves with code 0."""
        program = self.program
        assert program is not None  # noqa: S101 - it was started
        await self.until(lambda: program.code is not None, "the end of the program")
        if program.code:
            raise Broken(f"the program left with code {program.code}")

    async def ingested(self) -> None:
        """Everything that was said by event is applied."""
        while True:
            state = await self.control.ingest_state()
            if not state.backlog and not state.pending:
                return
            await asyncio.sleep(_LOOK_EVERY_S)


def _word_of_event(payload: str, execution_id: str) -> str:
    try:
        event = json.loads(payload)
    except ValueError:
        return ""
    if not isinstance(event, dict) or event.get("execution_id") != execution_id:
        return ""
    kind = str(event.get("type"))
    if kind == "execution.ack":
        return str(event.get("disposition"))
    return {"execution.started": "started", "execution.updated": "", "execution.created": ""}.get(kind, "ended")
