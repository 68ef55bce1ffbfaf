"""The workers of F2: subscribed to their share of the channels, they answer with one Lua call per batch."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from tests.benchmarks.forest import execution_id, share
from tests.benchmarks.harness import Link

EXECUTIONS, ACKS, ACK_EVENTS = "floor:{run}:executions", "floor:{run}:acks", "floor:{run}:ack-events"
BATCH = 100
SUBSCRIBE = 1_000  # channels per command

# KEYS[1] hash of acks; ARGV: channel for the number of new acks, then execution ids
ACK = """
local acks = {}
for i = 2, #ARGV do
  acks[#acks + 1] = ARGV[i]
  acks[#acks + 1] = 'stopped'
end
redis.call('PUBLISH', ARGV[1], redis.call('HSET', KEYS[1], unpack(acks)))
"""


def channel(execution: str) -> str:
    return f"floor:{{run}}:cancel:{execution}"


async def answer(link: Link, url: str, executions: int, worker: int, workers: int) -> None:
    """Says "subscribed" when every confirmation is in, then answers until the pipe ends."""
    indexes = share(executions, worker, workers)
    async with Redis.from_url(url) as client, client.pubsub() as subscription:
        for first in range(0, len(indexes), SUBSCRIBE):
            names = [channel(execution_id(index)) for index in indexes[first : first + SUBSCRIBE]]
            await subscription.subscribe(*names)
            for _ in names:
                await subscription.parse_response()
        heard: asyncio.Queue[str] = asyncio.Queue()
        sha = await client.script_load(ACK)
        acknowledging = asyncio.create_task(_acknowledge(client, sha, heard))
        listening = asyncio.create_task(_listen(subscription, heard))
        link.send("subscribed")
        try:
            await link.receive()
        finally:
            listening.cancel()
            acknowledging.cancel()
            await asyncio.gather(listening, acknowledging, return_exceptions=True)


async def _listen(subscription: Any, heard: asyncio.Queue[str]) -> None:
    skip = len(channel(""))
    async for message in subscription.listen():
        heard.put_nowait(message["channel"][skip:].decode())


async def _acknowledge(client: Redis, sha: str, heard: asyncio.Queue[str]) -> None:
    while True:
        batch = [await heard.get()]
        while len(batch) < BATCH and not heard.empty():
            batch.append(heard.get_nowait())
        await client.evalsha(sha, 1, ACKS, ACK_EVENTS, *batch)
