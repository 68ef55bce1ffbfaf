"""No key without an end: what must hold of the database after every test."""

from __future__ import annotations

import re
from dataclasses import dataclass

import redis

NO_EXPIRY = -1
"""What PTTL answers for a key that would stay for ever (-2: it is gone already)."""


@dataclass(frozen=True)
class Endless:
    """A key that may stay for ever, and why that cannot grow without bound."""

    pattern: re.Pattern[str]
    reason: str


ENDLESS: tuple[Endless, ...] = (
    Endless(re.compile(r"cb:open"), "the work list: entries leave with the keys of their run"),
    Endless(re.compile(r"cb:workers"), "each heartbeat takes off who was not seen for a day"),
    Endless(re.compile(r"cb:\{#\}:counts"), "the counters of all runs: fields of bounded labels"),
    Endless(re.compile(r"cb:\{#\}:nodes"), "at most 50 agent nodes: whose label ended would be another one again"),
    Endless(re.compile(r"cb:events"), "the ingest stream: trimmed below what the group still needs"),
    Endless(re.compile(r"cb:events:dead"), "refused events: capped, and to be found however late someone looks"),
)


def keys_without_end(client: redis.Redis) -> list[str]:
    """Names of the keys that have no TTL and stand not on the list, sorted."""
    keys = sorted({_text(key) for key in client.scan_iter(count=1000)})
    with client.pipeline(transaction=False) as batch:
        for key in keys:
            batch.pttl(key)
        remaining = batch.execute()
    return [key for key, ms in zip(keys, remaining, strict=True) if ms == NO_EXPIRY and not _may_stay(key)]


def _may_stay(key: str) -> bool:
    return any(entry.pattern.fullmatch(key) for entry in ENDLESS)


def _text(key: bytes | str) -> str:
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else key
