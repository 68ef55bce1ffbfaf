"""F2, the fan-out: read the tree, walk it, tell in Lua calls of 100, until all acks are in. Bare redis-py."""

import contextlib
import os
import time
from collections import defaultdict
from typing import Any

from redis.asyncio import Redis

from tests.benchmarks.floor_fanout_worker import ACK_EVENTS, EXECUTIONS, answer, channel
from tests.benchmarks.forest import execution_id, parent_id
from tests.benchmarks.harness import process
from tests.benchmarks.process_cost import Spent
from tests.benchmarks.redis_process import redis_pid
from tests.benchmarks.slow_scripts import watching_scripts

WORKERS = 2
CHUNK = 100  # executions per Lua call
CALLS = 10  # Lua calls per round trip
PAGE = 1_000  # records per HSCAN

# KEYS[1] hash of records `status|parent`; ARGV: channel prefix, message head, message tail, then execution ids
TELL = """
local ids = {unpack(ARGV, 4)}
local records = redis.call('HMGET', KEYS[1], unpack(ids))
local marks = {}
for i, id in ipairs(ids) do
  local status, rest = string.match(records[i], '^([^|]*)(.*)$')
  if status == 'running' then
    marks[#marks + 1] = id
    marks[#marks + 1] = 'cancelled' .. rest
    redis.call('PUBLISH', ARGV[1] .. id, ARGV[2] .. id .. ARGV[3])
  end
end
if #marks > 0 then redis.call('HSET', KEYS[1], unpack(marks)) end
return #marks / 2
"""
MESSAGE_HEAD = '{"v":1,"type":"cancel","cancel_id":"c_0123456789abcdef","run_id":"run","execution_id":"'
MESSAGE_TAIL = (
    '","start":1,"source":"cancel_tree","reason":"benchmark","requested_by":"ops@example",'
    '"published_at_us":1795342312489123,"attempt":1,"deadline_us":1795342342489123,"force":false}'
)


async def measure(url: str, executions: int) -> dict[str, float]:
    """Milliseconds from the first HSCAN to the last ack, told to workers that are subscribed to everything."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Redis.from_url(url))
        await _record_running(client, executions)
        scripts = await stack.enter_async_context(watching_scripts(url))
        tell = await client.script_load(TELL)
        starting = [process(answer, url, executions, worker, WORKERS) for worker in range(WORKERS)]
        workers = [await stack.enter_async_context(context) for context in starting]
        for worker in workers:
            await worker.receive()
        acks = await stack.enter_async_context(client.pubsub())
        await acks.subscribe(ACK_EVENTS)
        await acks.parse_response()

        pids = {"broker": [os.getpid()], "redis": [await redis_pid(url)], "workers": [worker.pid for worker in workers]}
        spent = Spent(pids)
        begin = time.perf_counter()
        parents = await _read_parents(client)
        await _tell(client, tell, bottom_up(parents))
        acknowledged = 0
        async for message in acks.listen():
            acknowledged += int(message["data"])
            if acknowledged == executions:
                took_ms = (time.perf_counter() - begin) * 1_000
                spent_us = spent.per_us(executions)
                return {"confirmed": took_ms, "longest_script": await scripts.longest_ms(), **spent_us}
    raise RuntimeError(f"{acknowledged} of {executions} acks, then the connection ended")


async def _record_running(client: Redis, executions: int) -> None:
    for first in range(0, executions, PAGE):
        page = range(first, min(first + PAGE, executions))
        await client.hset(EXECUTIONS, mapping={execution_id(i): f"running|{parent_id(i) or ''}" for i in page})


async def _read_parents(client: Redis) -> dict[str, str]:
    parents: dict[str, str] = {}
    cursor: int | None = None
    while cursor != 0:
        page: Any = await client.hscan(EXECUTIONS, cursor=cursor or 0, count=PAGE)
        cursor, records = page
        parents.update((key.decode(), record.decode().partition("|")[2]) for key, record in records.items())
    return parents


def bottom_up(parents: dict[str, str]) -> list[str]:
    """Every execution once, deepest level first."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    for execution, parent in parents.items():
        children[parent].append(execution)
    levels = [children[""]]
    while levels[-1]:
        levels.append([child for execution in levels[-1] for child in children.get(execution, ())])
    return [execution for level in reversed(levels) for execution in level]


async def _tell(client: Redis, sha: str, executions: list[str]) -> None:
    for first in range(0, len(executions), CHUNK * CALLS):
        calls = client.pipeline(transaction=False)
        for chunk in range(first, min(first + CHUNK * CALLS, len(executions)), CHUNK):
            ids = executions[chunk : chunk + CHUNK]
            calls.evalsha(sha, 1, EXECUTIONS, channel(""), MESSAGE_HEAD, MESSAGE_TAIL, *ids)
        await calls.execute()
