"""Compact records: what is written is read, whatever free text holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.records import (
    AckRecord,
    ExecutionRecord,
    IntentRecord,
    escape,
    place_of,
    places_of,
    stamp,
    unescape,
)


@given(st.text())
def test_escaped_text_comes_back_and_breaks_no_record(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("|\n\r")


def test_an_execution_record_keeps_the_raw_status() -> None:
    record = ExecutionRecord.parse(f"{escape('On|Hold 100%')}|root|gpu-7|plan|1795342312489123|1795342312480000|3|2|4|")
    assert record.raw_status == "On|Hold 100%"
    assert (record.claimed, record.start, record.order_us) == (True, "4", 1795342312489123)


def test_an_execution_that_has_not_started_is_ordered_by_its_registration() -> None:
    record = ExecutionRecord.parse("pending|||||1795342312480000|||0|")
    assert record.order_us == 1795342312480000
    assert not record.claimed


def test_a_time_that_is_not_said_twice_reads_like_one_in_full() -> None:
    short, full = (
        f"running|root|gpu-7||{started}|1795342312480000|0|1|1|{stamp}"
        for started, stamp in (("=", "="), ("1795342312480000", "1795342312480000"))
    )
    assert ExecutionRecord.parse(short) == ExecutionRecord.parse(full)
    assert place_of(short) == place_of(full) == ("root", 1795342312480000, 1795342312480000)
    places = places_of([short, full], {})
    assert places.stamps_us == [1795342312480000] * 2


def test_a_status_since_a_later_start() -> None:
    record = ExecutionRecord.parse("running||||1795342312489123|1795342312480000|0|1|2|=")
    assert (record.started_at_us, record.stamp) == ("1795342312489123", "1795342312489123")


def test_an_intent_says_whether_nobody_heard() -> None:
    told = IntentRecord.parse("c_1|1795342312489123|2|1|1|")
    assert (told.attempt, told.force, told.receivers) == (2, True, None)
    assert IntentRecord.parse("c_1|1795342312489123|1|0|0|0").receivers == 0


def test_an_ack_record_keeps_empty_times_apart_from_zero() -> None:
    ack = AckRecord.parse("received|1|1|0||1795342312489123||")
    assert stamp(ack.received_at_us) == 1795342312489123
    assert stamp(ack.settled_at_us) is None
