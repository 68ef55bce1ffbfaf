"""What one scene came to: what the caller was told beside what really happened."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tests.benchmarks.peers.program import Answer


@dataclass(frozen=True)
class Outcome:
    """Milliseconds count from the cancel. `knows_ms` is None where not every stop was confirmed."""

    tasks: int
    stopped: int
    last_stop_ms: float | None
    confirmed: int
    knows_ms: float | None
    false: int
    """Confirmed before the body had stopped, or though it never did, or began anew."""

    false_by_ms: float
    """The longest time that a body ran on after its confirmation; up to the end of the scene where it never stopped."""

    ran_again: int = 0
    """Tasks that another process began anew after the cancel."""

    still_running: int = 0
    """At the end of the scene."""

    says: Mapping[str, int] = field(default_factory=dict)


SEEN_LATE_NS = 100_000_000
"""A death is seen from outside, later than it was on a busy machine: so much of a false confirmation is forgiven."""


def outcome(
    called_ns: int,
    answers: Sequence[Answer],
    stops_ns: Mapping[int, int],
    ran_again: int,
    end_ns: int,
    by_death: Set[int] = frozenset(),
) -> Outcome:
    confirmed = [answer for answer in answers if answer.confirmed]
    seen_ns = {task: at_ns - SEEN_LATE_NS if task in by_death else at_ns for task, at_ns in stops_ns.items()}
    early_ns = [seen_ns.get(one.task, end_ns) - one.at_ns for one in confirmed]
    all_stopped, all_confirmed = len(stops_ns) == len(answers), len(confirmed) == len(answers)
    return Outcome(
        tasks=len(answers),
        stopped=len(stops_ns),
        last_stop_ms=(max(stops_ns.values()) - called_ns) / 1e6 if all_stopped else None,
        confirmed=len(confirmed),
        knows_ms=(max(one.at_ns for one in confirmed) - called_ns) / 1e6 if all_confirmed else None,
        false=sum(1 for early in early_ns if early > 0),
        false_by_ms=max([0, *early_ns]) / 1e6,
        ran_again=ran_again,
        still_running=len(answers) - len(stops_ns),
        says=dict(Counter(answer.says for answer in answers).most_common()),
    )
