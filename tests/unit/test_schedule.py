"""When the second chance comes: pure arithmetic on one operation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.cancel.schedule import (
    LONGEST_LOOK_US,
    SECOND_US,
    crowd_pause_us,
    crowded_look_us,
    first_look_us,
    next_look_us,
    told_for_us,
)
from broker.protocol.states import Scope
from tests.support.operations import open_operation

NOW_US = 1_795_342_312_489_123
OPERATION = open_operation(requested_at_us=NOW_US - SECOND_US, deadline_us=NOW_US + 29 * SECOND_US)


def test_the_pauses_between_two_tellings_double_up_to_a_minute() -> None:
    told_s = [told_for_us(attempt) / SECOND_US for attempt in range(1, 10)]
    assert told_s == [1, 3, 7, 15, 31, 63, 123, 183, 243]


@pytest.mark.parametrize(
    ("unsettled", "pause_us"), [(1_000, 0), (1_001, 200), (10_000, 1_800_000), (10**6, 60_000_000)]
)
def test_the_pause_of_a_crowd_grows_with_it_and_has_an_end(unsettled: int, pause_us: int) -> None:
    assert crowd_pause_us(unsettled) == pause_us


@pytest.mark.parametrize(
    ("unsettled", "changes", "pause_us"),
    [
        (0, {}, SECOND_US),
        (1_000, {}, SECOND_US),
        (10_000, {}, 2_800_000),
        (10**6, {}, LONGEST_LOOK_US),
        (10**6, {"deadline_us": NOW_US + 4 * SECOND_US}, 4 * SECOND_US),
        (10**6, {"deadline_us": NOW_US - 1}, SECOND_US),
        (10**6, {"force_after_us": 3 * SECOND_US}, 2 * SECOND_US),
        (10**6, {"force_after_us": SECOND_US}, SECOND_US),
        (10**6, {"scope": Scope.SUBTREE, "target": "planner"}, SECOND_US),
    ],
)
def test_the_first_look_comes_when_a_crowd_has_had_its_time_and_for_what_is_due_before(
    unsettled: int, changes: dict[str, Any], pause_us: int
) -> None:
    """Looking at a crowd is reading all of it, beside the workers that are answering."""
    assert first_look_us(replace(OPERATION, **changes), unsettled, NOW_US) == NOW_US + pause_us


@pytest.mark.parametrize(
    ("due_s", "changes", "pause_s"),
    [
        ((), {}, 15.0),
        ((7, 3), {}, 3.0),
        ((-1,), {}, 0.25),
        ((60,), {}, 15.0),
        ((7,), {"force_after_us": 3 * SECOND_US}, 2.0),
        ((7,), {"deadline_us": NOW_US + SECOND_US}, 1.0),
        ((), {"deadline_us": NOW_US - 1}, 1.0),
    ],
)
def test_the_next_look_is_in_time_for_what_is_due_first(
    due_s: tuple[int, ...], changes: dict[str, Any], pause_s: float
) -> None:
    due_us = [NOW_US + one * SECOND_US for one in due_s]
    look_s = (next_look_us(replace(OPERATION, **changes), due_us, NOW_US) - NOW_US) / SECOND_US
    assert pause_s <= look_s <= 1.2 * pause_s + 1e-6


def test_a_subtree_that_only_a_look_can_settle_is_looked_at_within_a_quarter_of_its_age() -> None:
    assert crowded_look_us(OPERATION, NOW_US) == NOW_US + SECOND_US
    assert crowded_look_us(OPERATION, NOW_US + 39 * SECOND_US) == NOW_US + 49 * SECOND_US
