"""When an execution is told again, and when an operation is looked at again; pure, but for the jitter."""

from __future__ import annotations

import random
from collections.abc import Iterable

from broker.protocol.records import IntentRecord, OperationRecord
from broker.protocol.states import Scope

SECOND_US = 1_000_000
LONGEST_PAUSE_US = 60 * SECOND_US
AT_ONCE = 1_000  # executions that have answered within the first pause, where their workers live
ANSWER_US = 200  # for each one more; measured: 150 to 450 on two cores that everything shares
SHORTEST_LOOK_US = SECOND_US // 4
LONGEST_LOOK_US = 15 * SECOND_US  # a heart that has stopped, and a process that has replaced one, are seen by looking


def told_for_us(attempt: int) -> int:
    """When attempt n + 1 is due, from the first: 1 s, 3 s, 7 s, … and then every minute."""
    return (
        sum(min(SECOND_US << n, LONGEST_PAUSE_US) for n in range(min(attempt, 7)))
        + max(0, attempt - 7) * LONGEST_PAUSE_US
    )


def crowd_pause_us(unsettled: int) -> int:
    """Longer for each while many have yet to answer: they were told a moment ago, and stand in a queue.

    To tell a hundred thousand again while their workers are at it is to make them answer twice. As they settle the
    pause goes, and a message that was lost is found by its worker's poll meanwhile.
    """
    return min(max(0, unsettled - AT_ONCE) * ANSWER_US, LONGEST_PAUSE_US)


def told_again_us(intent: IntentRecord, *, heard: bool) -> int:
    """When it is to be told again. One that was heard only cleans up: it is told at the longest pause."""
    if heard:
        return intent.published_at_us + told_for_us(intent.attempt - 1) + LONGEST_PAUSE_US
    return intent.published_at_us + told_for_us(intent.attempt)


def is_forcing(operation: OperationRecord, now_us: int) -> bool:
    after_us = operation.force_after_us
    return after_us is not None and now_us >= operation.requested_at_us + after_us


def first_look_us(operation: OperationRecord, unsettled: int, now_us: int) -> int:
    """When the sweep is to look at what was told just now. To look at a crowd is to read all of it."""
    soon_us = now_us + SECOND_US
    if operation.scope is Scope.SUBTREE or is_forcing(operation, now_us):
        return soon_us  # no ack settles a subtree in a run in which others wait; and a forced step is due
    return min(soon_us + crowd_pause_us(unsettled), now_us + _pause_us(operation, (), now_us))


def next_look_us(operation: OperationRecord, due_us: Iterable[int], now_us: int) -> int:
    """The next attempt of any, with jitter; a forced step that is still to come is not slept through."""
    pause_us = _pause_us(operation, due_us, now_us)
    return now_us + round(pause_us * random.uniform(1.0, 1.2))  # noqa: S311 - jitter


def crowded_look_us(operation: OperationRecord, now_us: int) -> int:
    """In a run in which others wait, too, no ack settles a subtree: found at most a quarter of its age too late."""
    return now_us + max(SECOND_US, (now_us - operation.requested_at_us) // 4)


def _pause_us(operation: OperationRecord, due_us: Iterable[int], now_us: int) -> int:
    waits = [one - now_us for one in due_us]
    if operation.force_after_us is not None and not is_forcing(operation, now_us):
        waits.append(operation.requested_at_us + operation.force_after_us - now_us)
    if now_us < operation.deadline_us:
        waits.append(operation.deadline_us - now_us)
    shortest = min(waits, default=SECOND_US)
    return max(SHORTEST_LOOK_US, min(shortest, LONGEST_LOOK_US))
