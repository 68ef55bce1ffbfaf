"""The Redis that is measured, as a process of this machine."""

from redis.asyncio import Redis


async def redis_pid(url: str) -> int:
    async with Redis.from_url(url) as client:
        return int((await client.info("server"))["process_id"])
