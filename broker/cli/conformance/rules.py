"""The rules of broker/protocol/README.md, "Worker, in any language", each with the trial that shows it.

A trial judges by the order of events, never by the time that has passed: that a program did *not* react is said only
behind a fence, something that it did afterwards over the same way. Time serves to give up, which is a broken rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.cli.conformance import answering, hearing, starting
from broker.cli.conformance.trial import NEVER_MS, Bench, Broken, Trial

_NO_POLL = {"BROKER_HEARTBEAT_MS": str(NEVER_MS)}
_TWO = ("a", "b")


@dataclass(frozen=True)
class Rule:
    """`sentence` is what a program must do; `show` raises Broken where it does not."""

    name: str
    sentence: str
    show: Callable[[Trial], Awaitable[None]]
    executions: tuple[str, ...] = ("a",)
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """`why` is None where the rule was kept."""

    rule: Rule
    why: str | None


RULES = (
    Rule("subscribes-first", "subscribes before it starts", starting.subscribes_first),
    Rule("waits", "waits for the confirmation of SUBSCRIBE before it starts", starting.waits),
    Rule("obeys-intent", "does not run what has an intent at the confirmation", starting.obeys_intent),
    Rule("told-at-start", "stops what was cancelled while it started", starting.told_at_start),
    Rule(
        "start-number",
        "says the number of its claim in every word",
        starting.start_number,
        env={**_NO_POLL, "BROKER_START": "2"},
    ),
    Rule("push", "hears a message at once, without waiting for its heartbeat", hearing.by_push, env=_NO_POLL),
    Rule(
        "reconcile",
        "reads the intents again at every confirmation after a break",
        hearing.by_confirmation,
        _TWO,
        _NO_POLL,
    ),
    Rule("poll", "hears by its heartbeat alone where messages are lost", hearing.by_poll),
    Rule("forged", "stops for an intent only: a message is a hint", hearing.ignores_forged, ("a", "b", "c")),
    Rule("unknown", "drops messages of an unknown type, a higher version, or no JSON", hearing.ignores_unknown),
    Rule("once", "stops once, however often it is told", answering.stops_once, _TWO),
    Rule("acks-again", "acks again when it is told again", answering.acks_again),
    Rule("received", "says `received` where stopping takes longer than 50 ms", answering.says_received),
    Rule("stopped", "says `stopped` only when the work has ended", answering.stops_first),
    Rule("unsubscribes", "unsubscribes at the end of each execution", answering.unsubscribes, _TWO),
    Rule("late-cancel", "answers no cancel of what has ended", answering.late_cancel, _TWO),
)


async def judge(bench: Bench, chosen: tuple[Rule, ...], at_once: int) -> list[Verdict]:
    """Tries the program under every rule, `at_once` side by side. Raises BrokerError where that cannot be done."""
    slots = asyncio.Semaphore(at_once)

    async def one(rule: Rule) -> Verdict:
        async with slots:
            trial = Trial(bench, rule.name, rule.executions, rule.env)
            try:
                await rule.show(trial)
            except Broken as broken:
                return Verdict(rule, str(broken))
            finally:
                await trial.end()
            return Verdict(rule, None)

    trials = [asyncio.create_task(one(rule)) for rule in chosen]
    try:
        return await asyncio.gather(*trials)
    finally:
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)
