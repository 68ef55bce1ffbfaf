"""Pure: seed and length → the schedule of faults. The seed fixes it to the microsecond; what meets what it does not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    KILL_WORKER = "kill_worker"
    STOP_WORKER = "stop_worker"
    REPLACE_STOPPED_WORKER = "replace_stopped_worker"
    """SIGSTOP until it is taken for dead and a newer process has its id, then SIGCONT: a proof that was mistaken."""
    KILL_CONTROL = "kill_control"
    KILL_REDIS = "kill_redis"
    STOP_REDIS = "stop_redis"
    DROP = "drop"
    """All connections of one link are reset."""
    REFUSE = "refuse"
    """The same, and new ones too, for a while."""
    DELAY = "delay"
    """Everything on one link comes late."""
    HALF_OPEN = "half_open"
    """Present connections of a link stay open and carry nothing any more, in one direction or both."""
    STALL = "stall"
    """Nothing passes for a while, then everything does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` picks a worker, a control plane or a link; `length_s` is how long it lasts, where it lasts."""

    at_s: float
    kind: FaultKind
    target: int
    length_s: float
    variant: float


# Kind → seconds between two of them on average, and how long one lasts.
_PACE: dict[FaultKind, tuple[float, float, float]] = {
    FaultKind.KILL_WORKER: (12.0, 0.0, 0.0),
    FaultKind.STOP_WORKER: (12.0, 0.2, 6.0),
    FaultKind.REPLACE_STOPPED_WORKER: (60.0, 0.0, 0.0),
    FaultKind.KILL_CONTROL: (15.0, 0.0, 0.0),
    FaultKind.KILL_REDIS: (25.0, 0.0, 1.5),
    FaultKind.STOP_REDIS: (20.0, 0.1, 3.0),
    FaultKind.DROP: (4.0, 0.0, 0.0),
    FaultKind.REFUSE: (12.0, 0.2, 3.0),
    FaultKind.DELAY: (6.0, 0.5, 5.0),
    FaultKind.HALF_OPEN: (6.0, 0.0, 0.0),
    FaultKind.STALL: (6.0, 0.2, 4.0),
}
FIRST_S = 1.0
PICKS = 1_000_000


def schedule(seed: int, length_s: float) -> tuple[Fault, ...]:
    """The faults of a run of this length, in order. In a short one the rare kinds come once where they fit."""
    found: list[Fault] = []
    for kind, (every_s, shortest_s, longest_s) in _PACE.items():
        chance = random.Random(f"{seed}/{kind}")
        at_s = FIRST_S + chance.uniform(0.0, min(every_s, max(0.0, length_s - FIRST_S) * 0.8))
        while at_s < length_s:
            lasts_s = chance.uniform(shortest_s, longest_s)
            found.append(Fault(at_s, kind, chance.randrange(PICKS), lasts_s, chance.random()))
            at_s += chance.expovariate(1 / every_s)
    return tuple(sorted(found, key=lambda fault: fault.at_s))
