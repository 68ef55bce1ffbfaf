"""Push, poll, reconcile, redelivery and confirm-before-start: each is sufficient with the others switched off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explorer import Violation, explore
from tests.model.game import Game
from tests.model.worlds import PROVED_ALONE

CARRIES = {
    "push": "push",
    "poll": "poll",
    "reconcile": "reconcile",
    "redelivery": "redeliver",
    "confirm before start": "confirm",
    "a worker without Redis asks": "ask",
}


@pytest.mark.parametrize("path", PROVED_ALONE)
def test_it_is_sufficient_alone(path: str) -> None:
    assert explore(Game(PROVED_ALONE[path])).complete


@pytest.mark.parametrize("path", PROVED_ALONE)
def test_without_it_nothing_else_would_have_told(path: str) -> None:
    world = PROVED_ALONE[path]

    with pytest.raises(Violation) as found:
        explore(Game(replace(world, paths=world.paths - {CARRIES[path]})))

    assert found.value.invariant == "every_held_execution_is_told"
