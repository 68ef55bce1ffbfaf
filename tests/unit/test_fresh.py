"""One answer for everybody: read once a second at most, and never more than a tenth of the time."""

from __future__ import annotations

import asyncio

import pytest

from broker.cancel.fresh import Fresh


class Source:
    """Counts how often it is read; each reading takes `takes_s` of a clock that only it moves."""

    def __init__(self) -> None:
        self.now_s, self.takes_s, self.reads = 100.0, 0.0, 0

    @staticmethod
    async def turn() -> None:
        """Others get their turn, as while something is read."""
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        await future

    async def read(self) -> int:
        self.reads += 1
        await self.turn()
        self.now_s += self.takes_s
        return self.reads


async def test_it_is_read_once_a_second_however_many_ask() -> None:
    source = Source()
    fresh = Fresh(source.read, lambda: source.now_s)
    assert await asyncio.gather(*(fresh.take() for _ in range(50))) == [1] * 50
    source.now_s += 0.9
    assert await fresh.take() == 1
    source.now_s += 0.2
    assert await fresh.take() == 2


async def test_what_takes_long_is_read_a_tenth_of_the_time_at_most() -> None:
    source = Source()
    fresh = Fresh(source.read, lambda: source.now_s)
    source.takes_s = 3.0
    assert await fresh.take() == 1
    source.now_s += 29.0
    assert await fresh.take() == 1
    source.now_s += 2.0
    assert await fresh.take() == 2


async def test_an_error_is_not_kept_and_neither_is_one_who_left() -> None:
    source, broken = Source(), [True]

    async def read() -> int:
        if broken:
            raise ValueError(broken.pop())
        return await source.read()

    fresh = Fresh(read, lambda: source.now_s)
    with pytest.raises(ValueError, match="True"):
        await fresh.take()
    first, second = asyncio.create_task(fresh.take()), asyncio.create_task(fresh.take())
    await source.turn()
    first.cancel()
    assert await second == source.reads
