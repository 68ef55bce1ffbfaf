"""The command `broker conformance`: tries any worker program under every rule of the protocol."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.options import Json
from broker.cli.settings import flag, option, seconds
from broker.errors import InvalidInput

if TYPE_CHECKING:
    from broker.cli.conformance.program import Launch
    from broker.cli.conformance.rules import Rule, Verdict

Command = Annotated[list[str], typer.Argument(metavar="CMD", help="The worker program and its arguments.")]
RedisUrl = Annotated[str, option("--redis-url", "The Redis to try it on; by default one inside this process.", "URL")]
Patience = Annotated[str, option("--patience", "When to give up on a program that does not answer.", "SECONDS")]
Rules = Annotated[list[str] | None, typer.Option("--rule", metavar="NAME", help="Only this rule; may be repeated.")]
Output = Annotated[bool, flag("--output", "Show on standard error what the program prints.")]

AT_ONCE = 4
"""Trials side by side: a program that starts slowly would take minutes one after the other."""


def conformance(
    command: Command,
    redis_url: RedisUrl = "embedded://",
    patience: Patience = "60",
    rule: Rules = None,
    output: Output = False,
    json: Json = False,
) -> None:
    """Tries a worker program under every rule of the protocol: pass or fail, with what was seen.

    \b
    Example: broker conformance -- node worker.mjs

    The program is started once a rule (BROKER_RULE), and finds in its environment what to do: run the executions
    BROKER_EXECUTION_IDS (with spaces between them) of BROKER_RUN_ID side by side on BROKER_REDIS_URL, in the namespace
    BROKER_NAMESPACE, as BROKER_WORKER_ID, and leave with code 0 when all of them have ended. BROKER_START is the
    number of its claims, it polls every BROKER_HEARTBEAT_MS.

    "Run" is to wait until it is cancelled, and then to stop. Where BROKER_END_KEY is set, an execution also ends well
    as soon as that set of Redis contains its id (SISMEMBER, every few milliseconds). Where BROKER_STOP_KEY is set, the
    work of a cancelled one takes until that set contains its id.

    A rule is judged by the order of what the program does, not by how long it takes, so a loaded machine changes no
    verdict. Only a program that does not answer at all is given up after --patience, and has broken the rule.

    Exit codes: 0 every rule is kept, 1 one is broken, 2 usage, 6 Redis unreachable, 130 interrupted.
    """
    from broker.cli.conformance.program import launcher
    from broker.cli.conformance.rules import RULES
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.conformance import verdict_lines

    logging.getLogger("broker").addHandler(logging.NullHandler())
    for name in rule or ():
        if name not in (names := [one.name for one in RULES]):
            raise InvalidInput(f"--rule {name[:60]!r}: allowed are {', '.join(names)}")
    chosen = tuple(one for one in RULES if not rule or one.name in rule)
    patience_s = seconds(patience, "--patience", least=0.1, most=3600.0) or 0.0
    trying = try_program(launcher(command, is_quiet=not output), redis_url, chosen, patience_s)
    verdicts = asyncio.run(_until_signal(trying))
    if json:
        rows = [{"rule": one.rule.name, "sentence": one.rule.sentence, "broken": one.why} for one in verdicts]
        show_json({"rules": rows})
    else:
        show(verdict_lines(verdicts, Paint.of(sys.stdout)))
    if any(one.why is not None for one in verdicts):
        raise typer.Exit(1)


async def _until_signal(trying: Coroutine[Any, Any, list[Verdict]]) -> list[Verdict]:
    """SIGTERM and SIGHUP end the programs too, as Ctrl-C does: each has a session of its own."""
    task, heard, loop = asyncio.create_task(trying), list[int](), asyncio.get_running_loop()

    def end(number: int) -> None:
        heard.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not heard:
            raise
        typer.echo(f"broker: {signal.Signals(heard[0]).name}: interrupted, no program is left", err=True)
        raise typer.Exit(128 + heard[0]) from None


async def try_program(
    launch: Launch, redis_url: str, chosen: tuple[Rule, ...], patience_s: float, *, at_once: int = AT_ONCE
) -> list[Verdict]:
    """One broker for all trials; it tells each cancel once, so that nothing but the rule in question helps."""
    from broker.cli.conformance.rules import judge
    from broker.cli.conformance.trial import Bench
    from broker.control import connect
    from broker.store.backend import Backend
    from broker.store.keys import NAMESPACE, Lifetimes

    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(connect(redis_url, sweep=False, ingest=True))
        backend = Backend.connect(control.redis_url, namespace=NAMESPACE, lifetimes=Lifetimes(), timeout_s=5.0)
        stack.push_async_callback(backend.close)
        return await judge(Bench(control, backend, launch, NAMESPACE, patience_s), chosen, at_once)
