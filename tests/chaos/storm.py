"""Carries a schedule of faults out on a fleet, each when it is due, and counts what was really done."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from tests.chaos.faults import Fault, FaultKind
from tests.chaos.fleet import Fleet, Member
from tests.chaos.proxy import BOTH
from tests.support.wait import spread

DIRECTIONS = (("up",), ("down",), BOTH, BOTH)


class Storm:
    """`done` counts faults by kind; one whose target is in the middle of another is left out, and not counted."""

    def __init__(self, fleet: Fleet, faults: Sequence[Fault]) -> None:
        self._fleet = fleet
        self._faults = faults
        self._redis = asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def blow(self) -> None:
        """Returns when the last fault is over. Raises what went wrong with the server itself."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in self._faults:
                await spread(max(0.0, fault.at_s - (time.monotonic() - began)))
                group.create_task(self._apply(fault))

    async def heal(self) -> None:
        """Whatever a fault that was cut short has left."""
        for link in self._fleet.links:
            link.heal()

    async def _apply(self, fault: Fault) -> None:
        if fault.kind in (FaultKind.KILL_REDIS, FaultKind.STOP_REDIS):
            happened = await self._hit_redis(fault)
        elif fault.kind in _ON_MEMBERS:
            happened = await self._hit_member(fault)
        else:
            happened = await self._hit_link(fault)
        if happened:
            self.done[fault.kind.value] += 1

    async def _hit_redis(self, fault: Fault) -> bool:
        if self._redis.locked():
            return False
        server = self._fleet.server
        async with self._redis:
            self._fleet.truth.write("fault", fault.kind, round(fault.length_s, 3))
            if fault.kind is FaultKind.KILL_REDIS:
                await asyncio.to_thread(server.kill)
                try:
                    await spread(fault.length_s)
                finally:
                    await asyncio.to_thread(server.restart)
            else:
                await asyncio.to_thread(server.pause)
                try:
                    await spread(fault.length_s)
                finally:
                    server.resume()
        self._fleet.truth.write("over", fault.kind)
        return True

    async def _hit_member(self, fault: Fault) -> bool:
        member = self._member(fault)
        if member is None or member.process is None or member.process.returncode is not None:
            return False
        self._fleet.truth.write("fault", fault.kind, member.module, member.orders.index, round(fault.length_s, 3))
        member.busy = True
        try:
            if fault.kind is FaultKind.STOP_WORKER:
                await self._fleet.stop_for(member, fault.length_s)
            elif fault.kind is FaultKind.REPLACE_STOPPED_WORKER:
                await self._fleet.replace_stopped(member)
            else:
                self._fleet.kill(member)
        finally:
            member.busy = False
        return True

    def _member(self, fault: Fault) -> Member | None:
        """The one that is picked, or the next that is free. Only one with an id of its own can be replaced alive."""
        fleet = self._fleet
        places = fleet.controls if fault.kind is FaultKind.KILL_CONTROL else fleet.workers
        if fault.kind is FaultKind.REPLACE_STOPPED_WORKER:
            places = [member for member in places if member.orders.worker_id]
        first = fault.target % len(places)
        return next((member for member in places[first:] + places[:first] if not member.busy), None)

    async def _hit_link(self, fault: Fault) -> bool:
        links = self._fleet.links
        place = fault.target % len(links)
        link = links[place]
        self._fleet.truth.write("fault", fault.kind, place, round(fault.length_s, 3))
        if fault.kind is FaultKind.DROP:
            link.drop()
        elif fault.kind is FaultKind.HALF_OPEN:
            link.half_open(DIRECTIONS[int(fault.variant * len(DIRECTIONS))])
        elif fault.kind is FaultKind.REFUSE:
            await link.refuse(fault.length_s)
        elif fault.kind is FaultKind.STALL:
            await link.stall(fault.length_s)
        else:
            await link.delay(fault.length_s, 0.01 + 0.4 * fault.variant)
        return True


_ON_MEMBERS = {
    FaultKind.KILL_WORKER,
    FaultKind.STOP_WORKER,
    FaultKind.REPLACE_STOPPED_WORKER,
    FaultKind.KILL_CONTROL,
}
