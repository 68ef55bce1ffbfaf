"""How long one command keeps Redis from everybody else, from its own SLOWLOG."""

import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import Redis

SLOWER_THAN_US = 200
ENTRIES = 10_000


class SlowScripts:
    """Scripts count by the time of the whole script; Redis does not list what runs inside it."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def longest_ms(self) -> float:
        """Of all since the block was entered; the threshold of the log where none was that slow."""
        entries = await self._client.slowlog_get(ENTRIES)
        longest_us = max([SLOWER_THAN_US, *(int(entry["duration"]) for entry in entries)])
        return longest_us / 1_000


@contextlib.asynccontextmanager
async def watching_scripts(url: str) -> AsyncIterator[SlowScripts]:
    async with Redis.from_url(url) as client:
        await client.config_set("slowlog-max-len", ENTRIES)
        await client.config_set("slowlog-log-slower-than", SLOWER_THAN_US)
        await client.slowlog_reset()
        try:
            yield SlowScripts(client)
        finally:
            await client.config_set("slowlog-log-slower-than", -1)
