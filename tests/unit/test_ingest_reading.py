"""What entries of the stream say, and what goes to the store together."""

from __future__ import annotations

import pytest

from broker.ingest.reading import Reading, read
from broker.ingest.translate import steps
from broker.store.reports import Report
from broker.store.streams import Entry
from tests.support.ingesting import event, status


def read_all(*payloads: str) -> Reading:
    return read([Entry(f"{n}-0", payload) for n, payload in enumerate(payloads, 1)])


def step_ids(*payloads: str) -> list[list[str]]:
    return [[one.entry_id for one in step] for step in steps(read_all(*payloads).events)]


ACK = event("execution.ack", "x", worker_id="w", disposition="stopped")
PLAIN = status("updated", "x", status="waiting")


@pytest.mark.parametrize(
    "cancel",
    [
        status("cancelled", "x"),
        status("updated", "x", status=" Canceled "),
        status("created", "x", status="cancel"),
        event("run.cancel_requested"),
        event("subtree.cancel_requested", "x"),
    ],
)
def test_what_comes_after_a_cancel_is_applied_after_it(cancel: str) -> None:
    """Else an end that was read with it would be recorded first, and there would be nothing left to cancel."""
    assert [ids[-1] for ids in step_ids(PLAIN, cancel, status("completed", "x"))][-2:] == ["2-0", "3-0"]


def test_what_its_holder_says_is_no_cancel() -> None:
    assert step_ids(PLAIN, status("cancelled", "x", worker_id="w"), PLAIN) == [["1-0", "2-0", "3-0"]]


def test_statuses_go_together_and_acks_go_together() -> None:
    assert step_ids(PLAIN, PLAIN, ACK, ACK, PLAIN) == [["1-0", "2-0"], ["3-0", "4-0"], ["5-0"]]


def test_what_cannot_be_read_is_told_apart() -> None:
    reading = read(
        [
            Entry("1-0", "{"),
            Entry("2-0", status("created", "x", v=2)),
            Entry("3-0", None, ("evnt", "x", "other", "y")),
            Entry("4-0", status("created", "x", run="")),
            Entry("5-0", "\udcff"),
            Entry("6-0", None),
        ]
    )
    assert {one: refusal.code for one, refusal in reading.refused.items()} == dict.fromkeys(
        ("1-0", "3-0", "5-0", "6-0"), "invalid_input"
    )
    assert "it has evnt, other" in reading.refused["3-0"].reason
    assert "deleted from the stream by someone else" in reading.refused["6-0"].reason
    assert (reading.dropped, [one.entry_id for one in reading.events], reading.runs) == (["2-0"], ["4-0"], [""])
    assert reading.payloads["3-0"] == "evnt x other y"
    assert list(reading.payloads) == [f"{n}-0" for n in range(1, 7)]


def test_a_time_after_its_publication_is_the_time_of_its_publication() -> None:
    def stamps(*payloads: str) -> list[str]:
        return [one.said.stamp for one in read_all(*payloads).events if isinstance(one.said, Report)]

    assert stamps(status("updated", "x", at=0, status="waiting"), status("started", "x")) == ["1999,1,0", "2999,2,0"]
    assert stamps(status("created", "x", at=0)) == ["0,1,0"], "older than every other"
