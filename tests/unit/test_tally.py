"""The records of a run, added up page by page: the same as looking at each by itself, however they are paged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cancel.tally import Tally
from broker.protocol.records import AckRecord, ExecutionRecord, Rows
from broker.protocol.states import Disposition, is_terminal
from tests.unit.test_report import CLAIMED, NOW_US, OPERATION, UNCLAIMED

TOLD_US = NOW_US - 10_000_000
Row = tuple[str, str, str | None, str | None]

a_stamp = st.sampled_from(["", *(str(TOLD_US + after_us) for after_us in (-5, 0, 2_000, 7_000))])
an_execution = st.builds(
    lambda record, status, stamp: "|".join(record._replace(status=status, stamp=stamp)),
    st.sampled_from([CLAIMED, UNCLAIMED]),
    st.sampled_from(["running", "cancelled", "Completed", "odd%7Cword"]),
    st.sampled_from(["", "1+", "1?"]),
)
an_intent = st.none() | st.just(f"c_1|{TOLD_US}|1|1|0|")
an_ack = st.none() | st.builds(
    lambda word, received, settled: "|".join(AckRecord(word, "1", "1", "0", "", received, settled, "")),
    st.sampled_from([one.value for one in Disposition]),
    a_stamp,
    a_stamp,
)
some_rows = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(an_execution, an_intent, an_ack)).map(
    lambda found: [(one, *row) for one, row in found.items()]
)


@dataclass
class Literal:
    """The rules, one execution after the other."""

    told: dict[str, Disposition]
    skipped: int
    running: set[str]
    received_us: list[int]
    stopped_us: list[int]


def literal(rows: list[Row], *, to_be_walked: bool) -> Literal:
    found = Literal({}, 0, set(), [], [])
    for one, raw, intent, raw_ack in rows:
        record, ack = ExecutionRecord.parse(raw), AckRecord.parse(raw_ack) if raw_ack else None
        ended = is_terminal(record.raw_status)
        if intent is None:
            found.skipped += ended
            if to_be_walked and (record.claimed or record.seen_to_run or not ended):
                found.running.add(one)
            continue
        disposition = found.told[one] = Disposition(ack.disposition) if ack else Disposition.ASKED
        if not disposition.settled:
            found.running.add(one)
        if ack is None or disposition is Disposition.NEVER_STARTED:
            continue
        ended_at = "" if disposition is Disposition.LOST else ack.settled_at_us
        for at, samples in ((ack.received_at_us or ended_at, found.received_us), (ended_at, found.stopped_us)):
            if at and int(at) != TOLD_US:
                samples.append(max(0, int(at) - TOLD_US))
    return found


def page_of(rows: list[Row]) -> Rows:
    return Rows(*(list(column) for column in zip(*rows, strict=True))) if rows else Rows([], [], [], [])


@given(some_rows, st.integers(1, 3), st.booleans())
def test_a_tally_says_what_each_record_says(rows: list[Row], page: int, walking: bool) -> None:
    tally = Tally(replace(OPERATION, phase="walking" if walking else "published"))
    for at in range(0, len(rows), page):
        tally.add(page_of(rows[at : at + page]))
    expected = literal(rows, to_be_walked=walking)
    assert (tally.told, tally.skipped, tally.executions) == (expected.told, expected.skipped, len(rows))
    assert tally.dispositions == Counter(expected.told.values())
    assert tally.settled == sum(one.settled for one in expected.told.values())
    assert (list(tally.received_us), list(tally.stopped_us)) == (expected.received_us, expected.stopped_us)
    kept = {one: (raw, intent, ack) for one, raw, intent, ack in rows if one in expected.running}
    assert kept == {one: (raw, tally.intents.get(one), tally.acks.get(one)) for one, raw in tally.running.items()}


@given(some_rows.filter(bool), st.data())
def test_what_a_scan_answers_twice_counts_once(rows: list[Row], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(rows), min_size=1))
    once, twice, in_one_page = Tally(OPERATION), Tally(OPERATION), Tally(OPERATION)
    once.add(page_of(rows))
    twice.add(page_of(rows))
    twice.add(page_of(again))
    in_one_page.add(page_of([*rows, *again]))
    for tally in (twice, in_one_page):
        assert (tally.told, tally.executions, tally.skipped) == (once.told, once.executions, once.skipped)
        assert (tally.dispositions, tally.settled) == (once.dispositions, once.settled)
        assert (tally.received_us, tally.stopped_us) == (once.received_us, once.stopped_us)


def test_t35_what_is_lost_was_heard_if_it_said_so_and_has_no_end() -> None:
    lost, intent = AckRecord("lost", "1", "1", "0", "", "", str(TOLD_US + 9_000), ""), f"c_1|{TOLD_US}|1|1|0|"
    heard = lost._replace(received_at_us=str(TOLD_US + 2_000))
    tally = Tally(OPERATION)
    tally.add(Rows(["heard", "silent"], ["|".join(CLAIMED)] * 2, [intent] * 2, ["|".join(heard), "|".join(lost)]))
    assert (list(tally.received_us), list(tally.stopped_us)) == ([2_000], [])


def test_only_those_who_hold_what_was_told_and_runs_can_be_a_cause() -> None:
    held, raw = "|".join(CLAIMED), "|".join(CLAIMED._replace(slot="1"))
    tally = Tally(replace(OPERATION, phase="walking"))
    tally.add(Rows(["told", "untold"], [held, raw], [f"c_1|{TOLD_US}|1|1|0|", None], [None, None]))
    assert set(tally.running) == {"told", "untold"}
    assert tally.holders({"0": "worker-1", "1": "worker-2"}) == {"worker-1"}


def test_a_word_that_no_script_writes_is_an_error() -> None:
    tally = Tally(OPERATION)
    with pytest.raises(KeyError, match="gone_fishing"):
        tally.add(Rows(["a"], ["|".join(CLAIMED)], [f"c_1|{TOLD_US}|1|1|0|"], ["gone_fishing|1|1|0||||"]))
