"""One trial: a program, the proxy it talks through, and a broker that cancels what it runs."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from broker.cancel.views import ExecutionView
from broker.cli.conformance.program import Launch, Program
from broker.cli.conformance.proxy import Proxy, Seen
from broker.control import Broker
from broker.errors import InvalidInput, NotFound
from broker.protocol.registration import Execution
from broker.store.backend import Backend
from broker.store.keys import HOUR_S

DISPOSITIONS = ("received", "deferred", "refused", "stopped", "killed", "ended_itself")
SETTLING = DISPOSITIONS[3:]
ENDS = (*SETTLING, "ended")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.1
_SCRIPTS = ("EVAL", "EVALSHA", "FCALL")
_WORDS_OF_ONE = 8
BEATS = 3
"""Heartbeats that make a fence: the first may have been under way already, and one more is for a second thread."""
NEVER_MS = 3_600_000


class Broken(Exception):
    """A rule was broken: the text says what was seen. Never leaves this package."""


@dataclass(frozen=True)
class Bench:
    """What all trials share. `patience_s`: when to give up on a program that does not answer."""

    control: Broker
    backend: Backend
    launch: Launch
    namespace: str
    patience_s: float


@dataclass
class Trial:
    """One program with its executions; `env` is what it is told beside the ids."""

    bench: Bench
    rule: str
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
        told = {
            "BROKER_REDIS_URL": urlunsplit(self._url._replace(netloc=f"{user}{at}127.0.0.1:{port}")),
            "BROKER_NAMESPACE": self.bench.namespace,
            "BROKER_RULE": self.rule,
            "BROKER_RUN_ID": self.run,
            "BROKER_EXECUTION_ID": self.one,
            "BROKER_EXECUTION_IDS": " ".join(self.executions),
            "BROKER_WORKER_ID": f"{self.run}-worker",
            "BROKER_START": "1",
            "BROKER_HEARTBEAT_MS": "200",
        }
        self.program = await self.bench.launch({**told, **self.env})

    async def start_and_run(self) -> None:
        await self.start()
        for one in self.executions:
            await self.claimed(one)

    async def end(self) -> None:
        if self.program is not None:
            await self.program.kill()
        await self.proxy.close()

    def has_slow_stop(self) -> None:
        """What is cancelled goes on until `let_stop`. To be said before the start, as the next."""
        self.env = {**self.env, "BROKER_STOP_KEY": self._set_of("stop")}

    def has_own_end(self) -> None:
        """What is not cancelled ends well at `let_end`."""
        self.env = {**self.env, "BROKER_END_KEY": self._set_of("end")}

    async def let_stop(self, execution_id: str) -> None:
        await self._let("stop", execution_id)

    async def let_end(self, execution_id: str) -> None:
        await self._let("end", execution_id)

    def _set_of(self, word: str) -> str:
        return self.keys.conformance_set(self.run, word)

    async def _let(self, word: str, execution_id: str) -> None:
        for command in (("SADD", self._set_of(word), execution_id), ("EXPIRE", self._set_of(word), str(HOUR_S))):
            await self.bench.backend.commands.command(*command)

    def channel(self, execution_id: str) -> str:
        return self.keys.cancel_channel(self.run, execution_id)

    async def publish(self, execution_id: str, payload: str) -> None:
        """A message that no broker has sent; returns when it has been passed to the program."""
        before = len(self.pushes("message", execution_id))
        await self.bench.backend.commands.command("PUBLISH", self.channel(execution_id), payload)
        await self.until(lambda: len(self.pushes("message", execution_id)) > before, "its subscription (for a message)")

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

    def answered(self, execution_id: str) -> list[str]:
        """What it said after `started`."""
        return [word for word in self.said(execution_id) if word != "started"]

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

    def asked(self, verb: str, word: str) -> list[Seen]:
        """Commands such as SUBSCRIBE with this channel or key among their words."""
        commands = (one for one in self.proxy.seen if not one.is_push and one.words)
        return [one for one in commands if one.words[0].upper() == verb and word in one.words[1:]]

    def _beats(self) -> int:
        key = self.keys.run(self.run).run
        return len(self.asked("HGET", key)) + len(self.asked("HMGET", key))

    # --- waiting ------------------------------------------------------------------------------------------

    async def until(self, predicate: Callable[[], bool], what: str) -> None:
        """Raises Broken, with what did not come: the program has left without it, or does not answer at all."""

        async def is_so() -> bool:
            return predicate()

        await self._until(is_so, what)

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        """Patience is what was slept, not what the clock says: a machine that stands still costs the program none."""
        waited_s, pause_s = 0.0, _FIRST_PAUSE_S
        while not await is_so():
            if self._has_left():
                await self._ingested()
                if await is_so():
                    return
                raise Broken(f"it left with code {self._code()}; not seen: {what} (--output shows what it prints)")
            if waited_s >= self.bench.patience_s:
                raise Broken(f"no answer within {self.bench.patience_s:g} s: {what}")
            await asyncio.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _code(self) -> int | None:
        return None if self.program is None else self.program.code

    def _has_left(self) -> bool:
        return self._code() is not None and self.proxy.is_deserted

    async def heartbeats(self) -> None:
        """A fence: it has polled so often since, so what it did before stands in `seen` before this returns."""
        enough = self._beats() + BEATS
        await self.until(
            lambda: self._beats() >= enough, "its poll (HGET of the run's epoch every BROKER_HEARTBEAT_MS)"
        )

    async def quiet(self) -> None:
        """A fence for one that does not poll: whatever it has asked is answered."""
        await self.until(lambda: self.proxy.is_quiet, "a moment in which it asks nothing")

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

    async def heard(self, execution_id: str) -> None:
        """It has answered the cancel, or its work waits for `let_stop`."""
        await self.until(
            lambda: (
                any(execution_id in seen.words for seen in self.asked("SISMEMBER", self._set_of("stop")))
                or bool(self.answered(execution_id))
            ),
            "an answer to the cancel, or SISMEMBER of BROKER_STOP_KEY",
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
        known = "not known"

        async def look() -> bool:
            nonlocal known
            view = await self.view(execution_id)
            known = f"status {view.status}, disposition {view.disposition or 'none'}" if view else "not known"
            return view is not None and is_so(view)

        try:
            await self._until(look, what)
        except Broken as broken:
            raise Broken(f"{broken}; the broker has: {known}") from None

    async def left(self) -> None:
        """The program has nothing left to run, and leaves with code 0; all that it said is applied."""
        await self.until(self._has_left, "the end of the program")
        if self._code():
            raise Broken(f"it left with code {self._code()} (--output shows what it prints)")
        await self._ingested()

    async def applied(self) -> None:
        """Everything that it has said is answered, and applied."""
        await self.quiet()
        await self._ingested()

    async def _ingested(self) -> None:
        waited_s = 0.0
        while (state := await self.control.ingest_state()).backlog or state.pending:
            if waited_s >= self.bench.patience_s:
                raise Broken(f"nothing is seen: for {waited_s:g} s the event stream of this Redis was never read empty")
            await asyncio.sleep(_FIRST_PAUSE_S)
            waited_s += _FIRST_PAUSE_S


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
