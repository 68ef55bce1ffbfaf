"""`python -m tests.benchmarks --million`: one run, registered, partly held, cancelled, settled; memory of each process.

The broker that registers and cancels is a process of its own; two workers hold 10,000 executions each, and the rest
has been registered and never started.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from redis.asyncio import Redis

import broker
from tests.benchmarks.figure_cancel import WORKERS, hold, register
from tests.benchmarks.forest import parent_id
from tests.benchmarks.harness import Link, process
from tests.benchmarks.process_cost import MEBIBYTE, memory_bytes
from tests.benchmarks.redis_process import redis_pid

EXECUTIONS = 1_000_000
HELD = 20_000
RUN = "run-million"
PATIENCE_S = 1_800.0
BROKER_MIB = 600  # the target


async def measure(url: str, executions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of each step, MiB of each process at its peak, and how everything ended. A false report fails."""
    held = min(HELD, executions)
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(process(drive, url, executions))
        register_s = await control.receive(PATIENCE_S)
        say(f"{executions:,} registered in {register_s:.1f} s")
        redis = await redis_pid(url)
        registered_mib = memory_bytes(redis) / MEBIBYTE
        starting = [process(hold_and_tell, url, held, worker) for worker in range(WORKERS)]
        workers = [await stack.enter_async_context(context) for context in starting]
        for worker in workers:
            await worker.receive(PATIENCE_S)
        say(f"{held:,} of them held")
        control.send("cancel")
        ended: dict[str, Any] = await control.receive(PATIENCE_S)
        if ended["call_failed"]:
            say(f"the call failed: {ended['call_failed']}; the sweep went on")
        say(f"{ended['state']} after {ended['settle_s']:.1f} s: {ended['dispositions']}")
        worker_mib = [await worker.receive() for worker in workers]
        async with Redis.from_url(url) as client:
            used_peak = int((await client.info("memory"))["used_memory_peak"])
    if ended["state"] != "settled" or sum(ended["dispositions"].values()) != executions:
        raise RuntimeError(f"not settled: {ended}")
    return {
        "executions": executions,
        "held": held,
        "register_s": register_s,
        **ended,
        "redis_registered_mib": registered_mib,
        "redis_peak_mib": memory_bytes(redis, "VmHWM") / MEBIBYTE,
        "redis_used_peak_mib": used_peak / MEBIBYTE,
        "workers_peak_mib": worker_mib,
        "broker_target_mib": BROKER_MIB,
    }


async def drive(link: Link, url: str, executions: int) -> None:
    """The broker: says how long registering took; told to, it cancels and says how it ended, and its memory."""
    async with broker.connect(url) as b:
        begin = time.perf_counter()
        await register(b, RUN, executions, parent_id)
        link.send(time.perf_counter() - begin)
        await link.receive(PATIENCE_S)
        before_mib = memory_bytes(os.getpid()) / MEBIBYTE
        begin = time.perf_counter()
        failure = ""
        try:
            report = await b.cancel_run(RUN, reason="benchmark", requested_by="ops@example", wait=PATIENCE_S)
        except broker.BrokerUnavailable as error:  # the cancel is durable: the sweep goes on with it
            failure = f"{error} after {time.perf_counter() - begin:.1f} s"
            report = await b.report(RUN, wait=PATIENCE_S)
        ended = {
            "call_failed": failure,
            "settle_s": time.perf_counter() - begin,
            "state": report.state,
            "dispositions": {str(name): count for name, count in report.dispositions.items() if count},
            "broker_before_mib": before_mib,
            "broker_peak_mib": memory_bytes(os.getpid(), "VmHWM") / MEBIBYTE,
        }
        link.send(ended)


async def hold_and_tell(link: Link, url: str, held: int, worker: int) -> None:
    """Holds its share; says "held", and when all of it has stopped its peak in MiB."""
    await hold(_Muted(link), url, RUN, held, worker, parent_id)
    link.send(memory_bytes(os.getpid(), "VmHWM") / MEBIBYTE)


class _Muted(Link):
    """A link that passes on "held" and keeps the list of stops to itself."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, message: object) -> None:
        if message == "held":
            self._link.send(message)


def as_text(section: Mapping[str, Any]) -> str:
    if "failure" in section:
        return f"a run of a million failed: {section['failure']}"
    met = "met" if section["broker_peak_mib"] <= section["broker_target_mib"] else "missed"
    failed = (
        f"the call itself failed, and the sweep went on: {section['call_failed']}\n" if section["call_failed"] else ""
    )
    workers = ", ".join(f"{mib:,.0f}" for mib in section["workers_peak_mib"])
    return (
        f"{section['executions']:,} executions, {section['held']:,} of them held by {WORKERS} workers\n"
        f"registered in {section['register_s']:.1f} s, cancelled and settled in {section['settle_s']:.1f} s: "
        f"{section['dispositions']}\n{failed}"
        f"broker: {section['broker_before_mib']:,.0f} MiB before, peak {section['broker_peak_mib']:,.0f} MiB "
        f"(target {section['broker_target_mib']}: {met})\n"
        f"redis: {section['redis_registered_mib']:,.0f} MiB registered, peak {section['redis_peak_mib']:,.0f} MiB "
        f"resident, {section['redis_used_peak_mib']:,.0f} MiB used\nworkers: peak {workers} MiB"
    )
