"""Which intents a worker takes for news (trap T10)."""

from __future__ import annotations

from broker.protocol.records import IntentRecord
from broker.worker.held import Held


def intent(cancel_id: str = "c_1", *, attempt: int = 1, force: bool = False) -> IntentRecord:
    return IntentRecord(cancel_id, 1, attempt, 1, force)


def held() -> Held:
    return Held("run-1", "x", "", "", lambda cause, force: None, start=1)


def test_t10_a_repeat_is_no_news() -> None:
    one = held()
    assert one.take(intent())
    assert not one.take(intent())
    assert not one.take(intent(attempt=2))
    assert one.take(intent("c_2"))


def test_t10_a_forced_step_is_news_and_nothing_cooperative_after_it() -> None:
    one = held()
    assert one.take(intent())
    assert one.take(intent(force=True))
    assert not one.take(intent(force=True))
    assert not one.take(intent())
    other = held()
    assert other.take(intent(force=True))
    assert not other.take(intent())


def test_t20_a_new_claim_begins_anew() -> None:
    one = held()
    assert one.take(intent())
    one.start = 2
    assert one.take(intent())
