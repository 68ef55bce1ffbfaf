"""How the end of a cancelled process tree is reported: never surer than what is proved."""

from __future__ import annotations

from typing import Literal

import pytest

from broker.protocol.states import Disposition
from broker.worker.bodies import _cancelled_outcome
from broker.worker.process import ProcessEnd


@pytest.mark.parametrize(
    ("proof", "says"),
    [("tree", "exit code -15"), ("group", "only its process group"), ("none", "its supervisor was killed")],
)
def test_the_detail_says_what_is_proved_to_be_gone(proof: Literal["tree", "group", "none"], says: str) -> None:
    outcome = _cancelled_outcome(ProcessEnd(-15, left=0, killed=0, proof=proof))
    assert outcome.disposition is Disposition.STOPPED
    assert says in outcome.detail
    assert ("known" in outcome.detail or "found" in outcome.detail) == (proof != "tree")


def test_what_needed_sigkill_is_killed() -> None:
    outcome = _cancelled_outcome(ProcessEnd(-9, left=1, killed=2, proof="tree"))
    assert (outcome.disposition, outcome.detail) == (Disposition.KILLED, "2 ended by SIGKILL")
