"""F3, the life: SUBSCRIBE, its confirmation, EVALSHA, UNSUBSCRIBE, EVALSHA per execution. Bare redis-py, one loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tests.benchmarks.forest import execution_id
from tests.benchmarks.harness import Link, process
from tests.benchmarks.steady import per_life_ms

GATES, EXECUTIONS = "floor:{run}:gates", "floor:{run}:executions"
STANDING = "floor:standing"  # redis-py's listen() ends when the last channel is gone

START = """
if redis.call('HEXISTS', KEYS[1], '*') == 1 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], 'running')
return 1
"""
FINISH = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= 'running' then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], 'succeeded')
return 1
"""


async def measure(url: str, at_a_time: int, lives: int) -> dict[str, float]:
    """Milliseconds per life, in one process of its own."""
    async with process(live, url, at_a_time, lives) as worker:
        return {"per_life": await worker.receive()}


async def live(link: Link, url: str, at_a_time: int, lives: int) -> None:
    async with Redis.from_url(url) as client, _confirmed_subscriptions(client) as subscriptions:
        start, finish = await client.script_load(START), await client.script_load(FINISH)

        async def life(index: int) -> None:
            execution = execution_id(index)
            channel = f"floor:cancel:{execution}"
            await subscriptions.subscribe(channel)
            await _evalsha(client, start, execution)
            await subscriptions.unsubscribe(channel)
            await _evalsha(client, finish, execution)

        link.send(await per_life_ms(life, at_a_time=at_a_time, lives=lives))


async def _evalsha(client: Redis, sha: str, execution: str) -> None:
    if await client.evalsha(sha, 2, GATES, EXECUTIONS, execution) != 1:
        raise RuntimeError(f"the floor's script refused {execution}")


class _Subscriptions:
    """Channels on one connection; `subscribe` returns when Redis has confirmed."""

    def __init__(self, subscription: PubSub) -> None:
        self._subscription = subscription
        self._unconfirmed: dict[bytes, asyncio.Future[None]] = {}

    async def subscribe(self, channel: str) -> None:
        confirmed = self._unconfirmed[channel.encode()] = asyncio.get_running_loop().create_future()
        await self._subscription.subscribe(channel)
        await confirmed

    async def unsubscribe(self, channel: str) -> None:
        await self._subscription.unsubscribe(channel)

    async def read(self) -> None:
        async for message in self._subscription.listen():
            if message["type"] == "subscribe" and message["channel"] in self._unconfirmed:
                self._unconfirmed.pop(message["channel"]).set_result(None)


@contextlib.asynccontextmanager
async def _confirmed_subscriptions(client: Redis) -> AsyncIterator[_Subscriptions]:
    async with client.pubsub() as subscription:
        await subscription.subscribe(STANDING)
        subscriptions = _Subscriptions(subscription)
        reader = asyncio.create_task(subscriptions.read())
        try:
            yield subscriptions
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
