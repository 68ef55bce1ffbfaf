"""A worker that keeps the protocol but for one sin, as a program of the conformance kit inside this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from tests.support.wait import spread

LOOK_EVERY_S = 0.02
KILL_AGAIN_S = 0.5


class Sin(StrEnum):
    """What it does wrong; the value is the rule that it breaks."""

    STARTS_FIRST = "subscribes-first"
    WAITS_FOR_NOTHING = "waits"
    IS_BLIND = "obeys-intent"
    IGNORES_WHAT_STARTED_LATE = "told-at-start"
    COUNTS_ONE = "start-number"
    IS_DEAF = "push"
    TRUSTS_A_CONFIRMATION = "reconcile"
    NEVER_POLLS = "poll"
    BELIEVES = "forged"
    IS_FRAGILE = "unknown"
    STOPS_AGAIN = "once"
    SAYS_IT_ONCE = "acks-again"
    STOPS_SILENTLY = "received"
    IS_HASTY = "stopped"
    CLINGS = "unsubscribes"
    ANSWERS_LATE = "late-cancel"


class _One:
    """An execution that it runs."""

    def __init__(self) -> None:
        self.cancel_id, self.seq, self.repeats = "", 0, 0
        self.running = self.ended = False
        self.confirmed, self.cancelled = asyncio.Event(), asyncio.Event()


class BadWorker:
    """Run it with `run()`; without a sin it is a good one."""

    def __init__(self, env: Mapping[str, str], sin: Sin | None) -> None:
        self._sin, self._env = sin, env
        self._run, self._namespace = env["BROKER_RUN_ID"], env["BROKER_NAMESPACE"]
        self._start = 1 if sin is Sin.COUNTS_ONE else int(env["BROKER_START"])
        retry = Retry(ConstantBackoff(0.05), 200)
        self._redis = Redis.from_url(env["BROKER_REDIS_URL"], decode_responses=True, retry=retry)
        self._pubsub = self._redis.pubsub()
        self._all = {one: _One() for one in env["BROKER_EXECUTION_IDS"].split()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._over = asyncio.Event()
        """Beside cancelling: redis-py can swallow that where an answer comes in the same moment."""

    def _key(self, name: str) -> str:
        return f"{self._namespace}:{{{self._run}}}:{name}"

    async def run(self) -> None:
        async with self._redis, self._pubsub:
            others = [asyncio.create_task(self._beat())]
            bodies = [asyncio.create_task(self._execute(name, one)) for name, one in self._all.items()]
            try:
                if self._sin is not Sin.STARTS_FIRST:
                    await self._subscribe()
                    others.append(asyncio.create_task(self._read()))
                    await asyncio.wait([*bodies, others[-1]], return_when=asyncio.FIRST_COMPLETED)
                    if self._failure is None:
                        await asyncio.gather(*bodies)
                else:
                    await asyncio.gather(*bodies)
            finally:
                self._over.set()
                for task in (*others[1:], *bodies, *self._tasks):
                    task.cancel()
                await asyncio.gather(*others, *bodies, *self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    # --- hearing ------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        await self._pubsub.subscribe(*(self._key(f"cancel:{name}") for name in self._all))

    async def _read(self) -> None:
        while self._failure is None and not self._over.is_set():
            try:
                message = await self._pubsub.get_message(timeout=1.0)
            except (RedisError, OSError):
                await spread(0.05)
                continue
            if message is not None:
                name = message["channel"].rsplit("cancel:", 1)[1]
                self._hear(name, self._all[name], message)

    def _hear(self, name: str, one: _One, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            again = one.confirmed.is_set()
            one.confirmed.set()
            if not (again and self._sin is Sin.TRUSTS_A_CONFIRMATION):
                self._soon(self._look(name, one))
        elif message["type"] == "message":
            payload = _parsed(message["data"])
            if payload is None or (payload.get("v"), payload.get("type")) != (1, "cancel"):
                if self._sin is Sin.IS_FRAGILE:
                    self._failure = ValueError(message["data"])
            elif self._sin is Sin.ANSWERS_LATE and one.ended:
                self._soon(self._ack(name, one, "received"))
            elif self._sin is Sin.BELIEVES and one.running:
                self._stop(name, one, payload["cancel_id"], True)
            elif self._sin is not Sin.IS_DEAF or payload["attempt"] > 1:
                self._soon(self._look(name, one, by_message=True))

    async def _beat(self) -> None:
        seen = None
        pause_s = float(self._env["BROKER_HEARTBEAT_MS"]) / 1000
        while self._sin is not Sin.NEVER_POLLS:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause_s)
            if self._over.is_set():
                return
            epoch = await self._redis.hget(self._key("run"), "epoch")
            if epoch != seen:
                seen = epoch
                for name, one in self._all.items():
                    await self._look(name, one)

    async def _look(self, name: str, one: _One, *, by_message: bool = False) -> None:
        intent = await self._intent(name)
        at_start = intent is not None and intent.split("|")[2:4] != ["1", str(self._start)]
        if intent is None or not one.running or (self._sin is Sin.IGNORES_WHAT_STARTED_LATE and at_start):
            return
        self._stop(name, one, intent.split("|")[0], by_message)

    async def _intent(self, name: str) -> str | None:
        intent: Any = await self._redis.hget(self._key("intents"), name)
        return None if intent is None else str(intent)

    def _stop(self, name: str, one: _One, cancel_id: str, by_message: bool) -> None:
        if one.cancel_id == cancel_id:
            if by_message and one.seq and self._sin is not Sin.SAYS_IT_ONCE:
                self._soon(self._ack(name, one, "received"))
            one.repeats += by_message
            return
        one.cancel_id = cancel_id
        one.cancelled.set()
        self._soon(self._say_received(name, one))

    async def _say_received(self, name: str, one: _One) -> None:
        if self._sin is Sin.IS_HASTY:
            await self._ack(name, one, "received")
            await self._ack(name, one, "stopped")
            return
        await spread(0.05)
        if self._sin is Sin.STOPS_SILENTLY:
            one.seq += 1
        elif one.running:
            await self._ack(name, one, "received")

    # --- saying -------------------------------------------------------------------------------------------

    async def _say(self, kind: str, name: str, **fields: Any) -> None:
        event = {"v": 1, "type": kind, "run_id": self._run, "execution_id": name, "start": self._start}
        event |= {"worker_id": self._env["BROKER_WORKER_ID"], **fields}
        await self._redis.xadd(f"{self._namespace}:events", {"event": json.dumps(event)})

    async def _ack(self, name: str, one: _One, disposition: str) -> None:
        one.seq += 1
        await self._say("execution.ack", name, seq=one.seq, disposition=disposition, cancel_id=one.cancel_id)

    def _soon(self, work: Any) -> None:
        if self._over.is_set():
            work.close()  # it would open a connection that nobody closes
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- running ------------------------------------------------------------------------------------------

    async def _execute(self, name: str, one: _One) -> None:
        if self._sin is Sin.STARTS_FIRST:
            one.running = True
            await self._say("execution.started", name)
            await self._subscribe()
            self._soon(self._read())
        if self._sin is not Sin.WAITS_FOR_NOTHING:
            await one.confirmed.wait()
        if self._sin is not Sin.STARTS_FIRST:
            intent = await self._intent(name)
            if intent is not None and self._sin is not Sin.IS_BLIND:
                return
            one.running = True
            await self._say("execution.started", name)
        await self._work(name, one)
        one.running, one.ended = False, True
        if self._sin is not Sin.CLINGS:
            await self._pubsub.unsubscribe(self._key(f"cancel:{name}"))

    async def _work(self, name: str, one: _One) -> None:
        while not (one.cancelled.is_set() or await self._may("END", name)):
            await self._pause()
        if not one.cancelled.is_set():
            await self._say("execution.completed", name)
            return
        while not await self._may("STOP", name):
            await self._pause()
        if self._sin is Sin.IS_HASTY:
            await asyncio.gather(*self._tasks)
            return
        for _ in range(1 + (one.repeats if self._sin is Sin.STOPS_AGAIN else 0)):
            await self._ack(name, one, "stopped")

    async def _pause(self) -> None:
        await spread(LOOK_EVERY_S)
        if self._over.is_set():
            raise asyncio.CancelledError

    async def _may(self, word: str, name: str) -> bool:
        """Without a set of Redis to look in, it may always stop and never end."""
        key = self._env.get(f"BROKER_{word}_KEY")
        return word == "STOP" if key is None else bool(await self._redis.sismember(key, name))


def _parsed(data: str) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class InProcess:
    """The worker as the kit knows a program."""

    def __init__(self, worker: BadWorker) -> None:
        self._task = asyncio.create_task(worker.run())

    @property
    def code(self) -> int | None:
        if not self._task.done():
            return None
        return 1 if self._task.cancelled() or self._task.exception() else 0

    async def kill(self) -> None:
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=KILL_AGAIN_S)
