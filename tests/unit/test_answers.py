"""From what the broker knows to the bodies of the API: the unit changes on the way, so the numbers are known here."""

from __future__ import annotations

from datetime import UTC, datetime

from broker.cancel.report import ExecutionReport
from broker.cancel.views import Cancellations, CancellationView
from broker.protocol.states import Cause, Disposition, Scope
from broker.server.answers import _straggler, cancellations_answer

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_ages_are_whole_milliseconds_and_never_negative() -> None:
    view = CancellationView(
        "run-1", "c_1", Scope.RUN, None, "open", False, None, None, AT, AT, None, 1, 1.2504, {"no_ack": 1}
    )
    answer = cancellations_answer(Cancellations((view,), None))
    assert (answer.cancellations[0].oldest_age_ms, answer.oldest_age_ms, answer.outstanding) == (1250, 1250, 1)
    assert answer.cancellations[0].requested_at == "2026-01-02T03:04:05.000006Z"


def test_a_straggler_says_how_long_ago_in_milliseconds() -> None:
    one = ExecutionReport("a", 0, Disposition.ASKED, Cause.WORKER_LOST, False, "w-1", None, AT, 2, 4.2, 61.0, None)
    told = _straggler(one)
    assert (told.age_ms, told.worker_last_seen_ms, told.attempts) == (4200, 61_000, 2)
