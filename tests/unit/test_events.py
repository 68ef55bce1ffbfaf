"""Events of control planes: what is read, what is dropped, and that junk is refused with a reason, never a crash."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidId, InvalidInput
from broker.protocol.events import (
    EVENT_LIMIT_BYTES,
    EVENT_TYPES,
    AckEvent,
    RunCancelRequested,
    StatusEvent,
    TargetCancelRequested,
    parse_event,
)

GOLDEN = Path(__file__).parent / "golden" / "events"
AT_US = 1795372919123456


def event(**fields: Any) -> str:
    return json.dumps({"v": 1, "type": "execution.updated", "run_id": "r", "execution_id": "x"} | fields)


def status_event(**fields: Any) -> StatusEvent:
    parsed = parse_event(event(**fields))
    assert isinstance(parsed, StatusEvent)
    return parsed


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_golden_event_reads_and_writes_the_same(name: str) -> None:
    fields = json.loads((GOLDEN / f"{name}.json").read_text())
    parsed = parse_event((GOLDEN / f"{name}.json").read_bytes())
    assert parsed is not None
    assert json.loads(parsed.model_dump_json(exclude_unset=True)) == fields


def test_there_is_a_golden_file_for_every_event() -> None:
    assert {path.name.removesuffix(".json") for path in GOLDEN.glob("*.json")} == EVENT_TYPES


def test_the_kinds_of_events_have_their_own_fields() -> None:
    ack = parse_event((GOLDEN / "execution.ack.json").read_text())
    assert isinstance(ack, AckEvent)
    assert (ack.settles, ack.incarnation, ack.seq) == (True, 0, 2)
    run = parse_event((GOLDEN / "run.cancel_requested.json").read_text())
    assert isinstance(run, RunCancelRequested)
    assert run.scope == "run"
    subtree = parse_event((GOLDEN / "subtree.cancel_requested.json").read_text())
    assert isinstance(subtree, TargetCancelRequested)
    assert (subtree.scope, subtree.order, subtree.deadline_ms) == ("subtree", "bottom_up_barrier", 5000)
    one = parse_event((GOLDEN / "execution.cancel_requested.json").read_text())
    assert isinstance(one, TargetCancelRequested)
    assert one.scope == "execution"


@pytest.mark.parametrize(
    ("time", "microseconds"),
    [
        ("2026-11-22T18:41:59.123456Z", AT_US),
        ("2026-11-22t19:41:59.123456789+01:00", AT_US),
        ("2026-11-22T18:41:59z", AT_US - 123456),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
        ("9999-12-31T23:59:59Z", 9_000_000_000_000_000),
    ],
)
def test_times_are_of_rfc_3339(time: str | None, microseconds: int | None) -> None:
    assert status_event(occurred_at=time, started_at=time).occurred_us == microseconds
    assert status_event(occurred_at=time, started_at=time).started_us == microseconds


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("created", None, ""),
        ("created", " queued ", "queued"),
        ("updated", "what-is-that", "what-is-that"),
        ("started", None, "running"),
        ("started", "in_progress", "in_progress"),
        ("started", "queued", "running"),
        ("completed", "done", "done"),
        ("completed", "failed", "succeeded"),
        ("failed", None, "failed"),
        ("failed", "timed_out", "timed_out"),
        ("failed", "succeeded", "failed"),
        ("cancelled", "Canceled", "Canceled"),
        ("cancelled", "stopped", "cancelled"),
    ],
)
def test_the_type_decides_the_status_and_the_word_refines_it(name: str, status: str | None, word: str) -> None:
    assert status_event(type=f"execution.{name}", status=status).word == word


def test_unknown_fields_are_ignored_and_empty_ids_are_absent() -> None:
    parsed = status_event(colour={"deep": [1]}, parent_execution_id="", run_id="", worker_id=None)
    assert (parsed.parent_execution_id, parsed.worker_id) == ("", None)
    assert parse_event('{"type":"execution.updated","execution_id":"x"}') is not None, "v 1 is understood"


@pytest.mark.parametrize(
    "payload",
    [event(type="execution.teleported"), event(v=2), '{"v":3,"type":"execution.ack"}', '{"type":"x"}'],
)
def test_what_comes_from_the_future_is_dropped(payload: str) -> None:
    assert parse_event(payload) is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "event"),
        (b"\xff\xfe", "event"),
        (b"{", "event"),
        (b"null", "event"),
        (b"[]", "event"),
        (b"{}", "event"),
        (b'"execution.created"', "event"),
        (b"[" * 5000, "event"),
        (event(type=7), "event"),
        (event(v="1"), "v '1'"),
        (event(v=0), "v 0"),
        (event(execution_id=None), "execution_id None"),
        ('{"v":1,"type":"execution.created","run_id":"r"}', "execution_id .*Field required"),
        (event(type="run.cancel_requested", run_id=None), "run_id None"),
        (event(status=["queued"]), "status"),
        (event(status="x" * 65), "status"),
        (event(reasoner_id="x" * 201), "reasoner_id"),
        (event(start="1"), "start '1'"),
        (event(start=0), "start 0"),
        (event(start=1.5), "start 1.5"),
        (event(incarnation=-1), "incarnation -1"),
        (event(incarnation=2**60), "incarnation"),
        (event(occurred_at="yesterday"), "occurred_at 'yesterday': allowed is a time of RFC 3339"),
        (event(occurred_at="2026-13-01T00:00:00Z"), "occurred_at .*month"),
        (event(occurred_at="2026-11-22T18:41:59"), "occurred_at"),
        (event(occurred_at=1795362119), "occurred_at 1795362119"),
        (event(started_at="2026-02-30T00:00:00Z"), "started_at .*day"),
        (event(type="execution.ack", worker_id="w", disposition="lost"), "disposition 'lost'"),
        (event(type="execution.ack", disposition="stopped"), "worker_id .*Field required"),
        (event(type="execution.ack", disposition="stopped", worker_id="w:inc"), "worker_id.*ends with :inc"),
        (event(worker_id="w:inc"), "worker_id.*ends with :inc"),
        (event(type="subtree.cancel_requested", order="top_down"), "order 'top_down'"),
        (event(type="subtree.cancel_requested", deadline_ms=-1), "deadline_ms -1"),
        (event(status="x" * EVENT_LIMIT_BYTES), f"event of .* bytes: allowed are up to {EVENT_LIMIT_BYTES}"),
        ('{"v":1,"type":"execution.created","execution_id":"x","status":"\ud800"}', "event"),
    ],
)
def test_what_can_never_be_applied_is_refused_with_its_reason(payload: bytes | str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as raised:
        parse_event(payload)
    assert len(str(raised.value)) < 400


HOSTILE = ["", "@x", "a b", "a|b", "a{b}", "x" * 201, "a\n", "../x", "ä", "a%b"]


@pytest.mark.parametrize("field", ["run_id", "execution_id", "parent_execution_id", "agent_node_id", "worker_id"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_ids_are_refused_before_they_reach_a_key(field: str, value: str) -> None:
    if value == "" and field != "execution_id":
        assert parse_event(event(**{field: value})) is not None
        return
    with pytest.raises(InvalidId, match=f"^{field}: "):
        parse_event(event(**{field: value}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [*StatusEvent.model_fields, *AckEvent.model_fields, *TargetCancelRequested.model_fields]


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_junk_is_refused_and_never_a_crash(payload: bytes | str) -> None:
    with pytest.raises(InvalidInput):
        parse_event(payload)


@given(
    st.sampled_from(sorted(EVENT_TYPES)),
    st.dictionaries(st.sampled_from(FIELDS), json_values | st.sampled_from(["x", 1, "2026-11-22T18:41:59Z"])),
)
def test_any_fields_are_read_or_refused(kind: str, fields: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInput):
        parsed = parse_event(json.dumps({"type": kind, "execution_id": "x", "run_id": "r"} | fields))
        assert parsed is None or parsed.type == kind
