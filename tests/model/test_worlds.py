"""Every order of steps of every small world keeps every invariant. The long run is `python -m tests.model`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.model.explorer import explore
from tests.model.game import Game
from tests.model.world import World
from tests.model.worlds import WORLDS

LIMIT = 500
"""States of one world in the suite: breadth first, so all short orders of steps of a larger one."""


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_no_order_of_steps_breaks_an_invariant(world: World, record_property: Callable[[str, object], None]) -> None:
    seen = explore(Game(world), LIMIT)

    record_property("explored", str(seen))
    assert seen.states >= (LIMIT if not seen.complete else 1)
    assert not seen.complete or seen.ends > 0, "a world that never comes to an end proves nothing about ends"
