"""The conformance kit: who keeps the protocol passes every rule, and each sin is found by its own rule alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.cli.conformance.command import try_program
from broker.cli.conformance.program import Program
from broker.cli.conformance.rules import RULES
from tests.support.backends import Capability
from tests.support.bad_worker import BadWorker, InProcess, Sin
from tests.support.points import PATIENCE_S

FAILS_AFTER_S = 12.0


async def broken(redis_url: str, sin: Sin | None, patience_s: float) -> dict[str, str]:
    """Rule → what was seen, of those that are broken."""

    async def launch(env: Mapping[str, str]) -> Program:
        return InProcess(BadWorker(env, sin))

    verdicts = await try_program(launch, redis_url, RULES, patience_s)
    assert [one.rule for one in verdicts] == list(RULES)
    return {one.rule.name: one.why for one in verdicts if one.why is not None}


async def test_who_keeps_the_protocol_passes_every_rule(redis_url: str) -> None:
    assert await broken(redis_url, None, PATIENCE_S) == {}


@pytest.mark.needs(Capability.OWN_PROCESS)  # the kit is tried here, not the server: one of them is enough
@pytest.mark.parametrize("sin", Sin)
async def test_each_sin_breaks_its_rule_and_no_other(sin: Sin, redis_url: str) -> None:
    found = await broken(redis_url, sin, FAILS_AFTER_S)
    assert list(found) == [sin.value], "\n".join(f"{name}: {why}" for name, why in found.items())


def test_there_is_a_sin_for_every_rule() -> None:
    assert {sin.value for sin in Sin} == {rule.name for rule in RULES}
