"""The conformance kit: who keeps the protocol passes every rule, and each sin is found by its own rule."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from broker.cli.conformance.command import try_program
from broker.cli.conformance.program import Program
from broker.cli.conformance.rules import RULES
from tests.support.backends import Capability
from tests.support.bad_worker import BadWorker, InProcess, Sin

PATIENCE_S = 60.0
UNTIL_SILENT_S = 4.0
"""Patience with the sins that are silence. It is counted in what the kit slept, in the process of the sinner too."""

SEEN = {
    Sin.STARTS_FIRST: "it said that it starts before it had subscribed",
    Sin.WAITS_FOR_NOTHING: "it started between SUBSCRIBE and its confirmation",
    Sin.IS_BLIND: "it ran under an intent that stood there at the confirmation: stopped",
    Sin.COUNTS_ONE: r"it has no claim with number 2 \(BROKER_START\) after it said that it started",
    Sin.BELIEVES: "it took a message for a cancel, where no intent stands: it said (received, )?stopped",
    Sin.IS_FRAGILE: "it left with code 1; not seen: ",
    Sin.STOPS_AGAIN: "told three times, it said [34] times that it had stopped",
    Sin.IS_HASTY: "it said `stopped` while its work went on",
    Sin.ANSWERS_LATE: "a cancel after its end was answered: received",
}
SILENT = {
    Sin.IGNORES_WHAT_STARTED_LATE: "no answer within 4 s: the end of the program",
    Sin.IS_DEAF: "no answer within 4 s: `stopped` from its holder; the broker has: status cancelled, disposition asked",
    Sin.TRUSTS_A_CONFIRMATION: "no answer within 4 s: `stopped` from its holder",
    Sin.NEVER_POLLS: "no answer within 4 s: `stopped` from its holder",
    Sin.SAYS_IT_ONCE: "no answer within 4 s: `received` once more when it is told again",
    Sin.STOPS_SILENTLY: "no answer within 4 s: `received`, before BROKER_STOP_KEY lets it stop",
    Sin.CLINGS: "no answer within 4 s: UNSUBSCRIBE after the end",
}


async def verdicts(redis_url: str, patience_s: float, *sins: Sin) -> dict[str, str | None]:
    """Rule → what was seen where it is broken, all side by side; with `sins` each under its own rule."""

    async def launch(env: Mapping[str, str]) -> Program:
        return InProcess(BadWorker(env, Sin(env["BROKER_RULE"]) if sins else None))

    rules = tuple(rule for rule in RULES if not sins or rule.name in sins)
    found = await try_program(launch, redis_url, rules, patience_s, at_once=len(RULES))
    assert [one.rule for one in found] == list(rules)
    return {one.rule.name: one.why for one in found}


async def test_who_keeps_the_protocol_passes_every_rule(redis_url: str) -> None:
    assert await verdicts(redis_url, PATIENCE_S) == {rule.name: None for rule in RULES}


@pytest.mark.needs(Capability.OWN_PROCESS)  # the kit is tried here, not the server: one of them is enough
@pytest.mark.parametrize(("patience_s", "seen"), [(PATIENCE_S, SEEN), (UNTIL_SILENT_S, SILENT)], ids=["done", "silent"])
async def test_each_sin_breaks_its_rule(patience_s: float, seen: dict[Sin, str], redis_url: str) -> None:
    found = await verdicts(redis_url, patience_s, *seen)
    wrong = {sin.value: found[sin] for sin, why in seen.items() if not re.match(why, found[sin] or "")}
    assert not wrong


def test_there_is_a_sin_for_every_rule() -> None:
    assert {sin.value for sin in (*SEEN, *SILENT)} == {rule.name for rule in RULES} == {sin.value for sin in Sin}
