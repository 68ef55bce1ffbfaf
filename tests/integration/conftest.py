"""A broker without a sweep of its own, so that a test decides when the second chance comes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import broker
from tests.support.observer import Observer, observing
from tests.support.parts import Parts, open_parts


@pytest.fixture
async def b(redis_url: str) -> AsyncIterator[broker.Broker]:
    async with broker.connect(redis_url, sweep=False) as connected:
        yield connected


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[Parts]:
    async with open_parts(redis_url) as opened:
        yield opened


@pytest.fixture
async def observer(redis_url: str) -> AsyncIterator[Observer]:
    async with observing(redis_url) as seeing:
        yield seeing
