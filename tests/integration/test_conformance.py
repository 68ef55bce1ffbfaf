"""The conformance kit: who keeps the protocol passes every rule, and each sin is found by its own rule."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.cli.conformance.command import try_program
from broker.cli.conformance.program import Program
from broker.cli.conformance.rules import RULES, Rule
from tests.support.backends import Capability
from tests.support.bad_worker import BadWorker, InProcess, Sin
from tests.support.points import PATIENCE_S

FAILS_AFTER_S = 12.0


TRIES = 3
"""The kit judges by time: on a loaded machine a single verdict may be wrong in either direction, not all of them."""


async def broken(redis_url: str, sin: Sin | None, patience_s: float, rules: tuple[Rule, ...]) -> dict[str, str]:
    """Rule → what was seen, of those that are broken."""

    async def launch(env: Mapping[str, str]) -> Program:
        return InProcess(BadWorker(env, sin))

    verdicts = await try_program(launch, redis_url, rules, patience_s)
    assert [one.rule for one in verdicts] == list(rules)
    return {one.rule.name: one.why for one in verdicts if one.why is not None}


@pytest.mark.timed
async def test_who_keeps_the_protocol_passes_every_rule(redis_url: str) -> None:
    tried: tuple[Rule, ...] = RULES
    found: dict[str, str] = {}
    for _ in range(TRIES):
        found = await broken(redis_url, None, PATIENCE_S, tried)
        tried = tuple(rule for rule in tried if rule.name in found)
        if not tried:
            return
    pytest.fail("\n".join(f"{name}: {why}" for name, why in found.items()))


@pytest.mark.timed
@pytest.mark.needs(Capability.OWN_PROCESS)  # the kit is tried here, not the server: one of them is enough
@pytest.mark.parametrize("sin", Sin)
async def test_each_sin_breaks_its_rule(sin: Sin, redis_url: str) -> None:
    rule = next(one for one in RULES if one.name == sin.value)
    for _ in range(TRIES):
        if await broken(redis_url, sin, FAILS_AFTER_S, (rule,)):
            return
    pytest.fail(f"{rule.name} was found kept {TRIES} times")


def test_there_is_a_sin_for_every_rule() -> None:
    assert {sin.value for sin in Sin} == {rule.name for rule in RULES}
