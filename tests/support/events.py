"""A client of Server-Sent Events, as its specification has it: what a test reads from a stream of a run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.points import PATIENCE_S


@dataclass(frozen=True)
class Sent:
    """One event as it was sent."""

    name: str
    id: str | None
    data: dict[str, Any]

    @property
    def ack(self) -> tuple[str, str]:
        return self.data["execution_id"], self.data["disposition"]


def parse(lines: Iterator[str]) -> Iterator[Sent]:
    """Events of complete lines; comments are nothing."""
    fields: dict[str, str] = {}
    for line in lines:
        if line == "":
            if "data" in fields:
                yield Sent(fields["event"], fields.get("id"), json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


@dataclass
class Reader:
    """Reads one stream; `seen` is all that was read so far, comments are in `comments`."""

    _lines: AsyncIterator[str]
    response: httpx.Response
    seen: list[Sent] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    async def next(self) -> Sent | None:
        """The next event; None: the stream has ended."""
        block: list[str] = []
        async for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
                continue
            block.append(line)
            if line == "" and (found := list(parse(iter(block)))):
                self.seen += found
                return found[0]
        return None

    async def until(self, name: str, **data: Any) -> Sent:
        """The first event from here on that has this name and these fields."""
        while (sent := await self.next()) is not None:
            if sent.name == name and data.items() <= sent.data.items():
                return sent
        raise AssertionError(f"the stream ended before {name} {data}; seen: {self.seen}")

    async def rest(self) -> list[Sent]:
        """Everything until the stream ends."""
        while await self.next() is not None:
            pass
        return self.seen

    @property
    def acks(self) -> list[tuple[str, str]]:
        return [sent.ack for sent in self.seen if sent.name == "ack"]


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, run_id: str, after: str | None = None, **query: str
) -> AsyncIterator[Reader]:
    """The stream of a run, open for the length of the block."""
    headers = {} if after is None else {"Last-Event-ID": after}
    path = f"/api/v1/runs/{run_id}/events"
    async with client.stream("GET", path, params=query, headers=headers, timeout=PATIENCE_S) as response:
        assert response.status_code == 200, await response.aread()
        yield Reader(response.aiter_lines(), response)
