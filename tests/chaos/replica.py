"""One replica in a process of its own: `python -m tests.chaos.replica URL NAME`, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from tests.support.ingesting import open_replica


async def consume(url: str, name: str) -> None:
    async with open_replica(url, name, block=1.0, idle=2.0, takeover=1.0, trim=1.0):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2]))
