"""One round: a fleet under faults until the time is over, then quiet until all is settled, then the reckoning."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import broker
from tests.chaos.check import Finding, check
from tests.chaos.commands_watch import CommandsWatch
from tests.chaos.facts import read_facts, write_facts
from tests.chaos.faults import schedule
from tests.chaos.figures import Figures, figures_of
from tests.chaos.fleet import Fleet
from tests.chaos.history import read_history, run_of
from tests.chaos.plan import MEAN_SIZE, Shape
from tests.chaos.storm import Storm
from tests.chaos.truth import TruthFile, now_us, read_lines
from tests.chaos.undertaker import Undertaker
from tests.support.parts import Parts, open_parts
from tests.support.redis_server import RedisServer
from tests.support.wait import spread

WARM_UP_S = 2.0
"""From the start of the processes until run 0 is due."""
PATIENCE_S = 60.0
FOR_EVER = frozenset({"no_worker"})
"""Stragglers that no waiting will ever settle: nobody runs them, and nobody ever did."""
CRASHES, FAULTS = "crashes.json", "faults.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """`rate` is executions a second that are due in the whole fleet."""

    seed: int
    length_s: float
    workers: int
    controls: int
    rate: float
    heartbeat_s: float

    @property
    def shape(self) -> Shape:
        return Shape(self.seed, self.workers, self.controls, self.rate / MEAN_SIZE)


async def play(settings: Settings, folder: Path) -> None:
    """Plays a round and leaves everything that is needed to judge it in the folder."""
    logging.basicConfig(filename=folder / "supervisor.log", level=logging.WARNING, format="%(asctime)s %(message)s")
    (folder / "settings.json").write_text(json.dumps(asdict(settings)) + "\n")
    with RedisServer(durable=True) as server:
        began_us = now_us() + int(WARM_UP_S * 1e6)
        ends_us = began_us + int(settings.length_s * 1e6)
        watch = CommandsWatch(folder)
        watching = asyncio.create_task(watch.keep())
        try:
            async with Fleet(server, settings.shape, folder, began_us, ends_us, settings.heartbeat_s) as fleet:
                await spread(WARM_UP_S)
                storm = Storm(fleet, schedule(settings.seed, settings.length_s))
                async with open_parts(server.url) as parts:
                    burying = asyncio.create_task(fleet.undertaker.keep(parts.claims))
                    await storm.blow()
                    await spread(max(0.0, (ends_us - now_us()) / 1e6))
                    burying.cancel()
                    await asyncio.gather(burying, return_exceptions=True)
                await storm.heal()
                await _reckon(server.url, folder, watch, fleet)
                _write_counts(folder, storm.done, fleet.crashes)
        finally:
            watching.cancel()


async def _reckon(url: str, folder: Path, watch: CommandsWatch, fleet: Fleet) -> None:
    """Everything that still runs is cancelled, and when all that can settle has settled the broker is asked."""
    async with broker.connect(url, sweep=False, timeout=30.0) as control, open_parts(url) as parts:
        with TruthFile(folder / "last-orders.jsonl") as truth:
            await _last_orders(folder, control, truth)
            await _settle(control, parts, truth, fleet.undertaker)
        await write_facts(folder, parts, control, await _run_ids(parts))
    watch.close()
    fleet.truth.write("reckoned")


async def _last_orders(folder: Path, control: broker.Broker, truth: TruthFile) -> None:
    """Bodies that wait for ever where nobody has cancelled, and work whose canceller was killed."""
    history = read_history(read_lines(folder))
    living = {
        run_of(execution_id)
        for execution_id, bodies in history.bodies.items()
        if any(math.isinf(body.ended_us) for body in bodies)
    }
    cancelled = {promise.run_id for promise in history.promises if promise.scope == "run"}
    for run_id in sorted(living - cancelled):
        truth.write("asked", run_id, "run", "")
        report = await control.cancel_run(run_id, reason="last orders", force_after=5.0, deadline=10.0)
        truth.write("accepted", run_id, report.cancel_id, "run", "", report.state, 0, report.totals.still_running)


async def _settle(control: broker.Broker, parts: Parts, truth: TruthFile, undertaker: Undertaker) -> None:
    """Until nothing is open but what nobody will ever settle, or the patience is over."""
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at:
        buried = await undertaker.declare(parts.claims)
        page = await control.cancellations("open")
        causes = Counter[str]()
        for one in page.cancellations:
            causes.update(one.causes)
        truth.write("open", len(page.cancellations), dict(causes))
        moving = [one for one in page.cancellations if not one.causes or set(one.causes) - FOR_EVER]
        if buried and not moving and page.next_cursor is None:
            return
        await spread(1.0)


async def _run_ids(parts: Parts) -> list[str]:
    """Every run that Redis knows, whoever made it."""
    found: set[str] = set()
    cursor = "0"
    prefix, _, suffix = parts.backend.run("*").executions.partition("*")
    gates = parts.backend.run("*").gates
    for pattern, ending in ((f"{prefix}*{suffix}", suffix), (gates, gates.partition("*")[2])):
        while True:
            cursor, page = await parts.backend.commands.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            found.update(key.removeprefix(prefix).removesuffix(ending) for key in page)
            if str(cursor) == "0":
                break
    return sorted(found)


def _write_counts(folder: Path, faults: Counter[str], crashes: list[str]) -> None:
    (folder / FAULTS).write_text(json.dumps(faults))
    (folder / CRASHES).write_text(json.dumps(crashes))


def judge(folder: Path) -> tuple[Figures, list[Finding]]:
    """What a round has shown; needs nothing but its folder."""
    history, facts = read_history(read_lines(folder)), read_facts(folder)
    findings = check(history, facts)
    counts = json.loads((folder / FAULTS).read_text())
    crashes = json.loads((folder / CRASHES).read_text())
    return figures_of(history, facts, findings, counts, crashes), findings
