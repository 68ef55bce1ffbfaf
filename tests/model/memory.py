"""Redis in this process: the production scripts on fakeredis, without TCP, each call from any contents.

A script's answer depends on what stands in Redis and on its arguments only, so each pair is run once and remembered:
a world of a million transitions needs some thousand script calls.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import fakeredis

from broker.protocol.messages import CancelMessage, parse_message
from broker.store.keys import Keys, RunKeys
from broker.store.scripts import Script
from tests.model.contents import (
    EARLIER,
    LEASED,
    RUN,
    STAMP,
    Contents,
    Pairs,
    canonical_ack,
    canonical_execution,
    canonical_intent,
    canonical_operation,
    canonical_run,
)

KEYS = Keys()
RUN_KEYS = KEYS.run(RUN)
CHANNELS = KEYS.channels(RUN)
HASHES = ("run", "gates", "cancels", "executions", "workers", "intents", "acks")
SETS = ("missing", "open_cancels")


class Told(NamedTuple):
    """A cancel message that was published."""

    execution_id: str
    attempt: int
    force: bool


class Outcome(NamedTuple):
    """What one call did. `epoch_rose` and `v_rose` stand for the counters, which contents do not keep."""

    contents: Contents
    answer: Any
    told: tuple[Told, ...]
    epoch_rose: bool
    v_rose: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Subscribes to everything, in the place of a connection. Worker subscriptions are the model's."""

    payloads: list[bytes]
    __hash__ = object.__hash__

    def put_response(self, message: list[bytes]) -> None:
        self.payloads.append(message[-1])


class Memory:
    """Runs commands of scripts from one contents to the next."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._server = server = fakeredis.FakeServer()
        self._client = fakeredis.FakeStrictRedis(server=server, decode_responses=True)
        for script in scripts:
            self._client.script_load(script.source)
        self._payloads: list[bytes] = []
        self._recorder = _Recorder(self._payloads)
        server.psubscribers[f"{KEYS.namespace}:*".encode()] = {self._recorder}  # type: ignore[assignment]
        self._known: dict[tuple[Contents, tuple[str, ...]], Outcome] = {}
        self._interned: dict[Contents, Contents] = {}
        self.calls = 0

    def run(self, contents: Contents, command: tuple[str, ...]) -> Outcome:
        """What the command does there."""
        known = self._known.get((contents, command))
        if known is None:
            known = self._known[contents, command] = self._run(contents, command)
        return known

    def _run(self, contents: Contents, command: tuple[str, ...]) -> Outcome:
        self.calls += 1
        self._load(contents)
        self._payloads.clear()
        answer: Any = self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        told = [message for one in self._payloads if isinstance(message := parse_message(one), CancelMessage)]
        after, epoch_rose, v_rose = self._read(contents)
        return Outcome(
            self._interned.setdefault(after, after),
            answer,
            tuple(Told(one.execution_id, one.attempt, one.force) for one in told),
            epoch_rose,
            v_rose,
        )

    def _load(self, contents: Contents) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.flushdb()
        for name in HASHES:
            if pairs := getattr(contents, name):
                pipe.hset(getattr(RUN_KEYS, name), mapping=dict(pairs))
        for name in SETS:
            if members := getattr(contents, name):
                pipe.sadd(getattr(RUN_KEYS, name), *members)
        if contents.unsettled:
            pipe.zadd(RUN_KEYS.unsettled, dict.fromkeys(contents.unsettled, float(STAMP)))
        if contents.work_list:
            pipe.zadd(KEYS.work_list, dict.fromkeys(contents.work_list, 0))
        pipe.execute()

    def _read(self, before: Contents) -> tuple[Contents, bool, frozenset[str]]:
        raw = {name: self._hash(getattr(RUN_KEYS, name)) for name in HASHES}
        rose = frozenset(one for one, text in raw["cancels"].items() if json.loads(text)["v"] not in ("0", "1"))
        contents = Contents(
            run=canonical_run(raw["run"]) if raw["run"] else (),
            gates=_pairs(raw["gates"]),
            cancels=_canonical_operations(raw["cancels"]),
            executions=_pairs({one: canonical_execution(text) for one, text in raw["executions"].items()}),
            workers=_pairs(raw["workers"]),
            missing=self._members(RUN_KEYS.missing),
            intents=_pairs({one: canonical_intent(text) for one, text in raw["intents"].items()}),
            acks=_pairs({one: canonical_ack(text) for one, text in raw["acks"].items()}),
            unsettled=self._members(RUN_KEYS.unsettled),
            open_cancels=self._members(RUN_KEYS.open_cancels),
            work_list=self._members(KEYS.work_list),
        )
        _check_canonical(contents)
        return contents, raw["run"].get("epoch", "0") != before.epoch, rose

    def _hash(self, key: str) -> dict[str, str]:
        """Looked up in the fake server itself: a third of a call's time would go into asking for it."""
        item = self._server.dbs[0].get(key.encode())
        return {} if item is None else {one.decode(): text.decode() for one, text in item.value.items()}

    def _members(self, key: str) -> tuple[str, ...]:
        item = self._server.dbs[0].get(key.encode())
        return () if item is None else tuple(sorted(one.decode() for one in item.value))


def _check_canonical(contents: Contents) -> None:
    """A stamp that contents.py does not know would make a new state of every call."""
    unknown = set(re.findall(r"\d{16,}", repr(contents))) - {STAMP, EARLIER, LEASED}
    if unknown:
        raise AssertionError(f"contents.py leaves a time as it is: {unknown} in {contents}")


def _pairs(fields_of: dict[str, str]) -> Pairs:
    return tuple(sorted(fields_of.items()))


def _canonical_operations(raw: dict[str, str]) -> Pairs:
    now_us = int(time.time() * 1_000_000)
    return _pairs({one: canonical_operation(text, now_us) for one, text in raw.items()})


assert {field.name for field in fields(Contents)} == {*RunKeys._fields, "work_list"} - {"log", "idempotency", "counts"}
