"""The wire is what the golden files say, version by version; what comes from the future is dropped, not fatal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.errors import InvalidInput
from broker.protocol.messages import (
    AcksMessage,
    AnyMessage,
    CanaryMessage,
    CancelMessage,
    DoYouHoldMessage,
    parse_acks,
    parse_message,
)

GOLDEN = Path(__file__).parent / "golden"
KINDS: dict[str, type[AnyMessage]] = {
    "cancel": CancelMessage,
    "acks": AcksMessage,
    "canary": CanaryMessage,
    "do_you_hold": DoYouHoldMessage,
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_golden_message_reads_and_writes_the_same(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text()
    message = parse_message(text)
    assert isinstance(message, KINDS[name])
    assert json.loads(message.model_dump_json()) == json.loads(text)


def test_there_is_a_golden_file_for_every_message() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(KINDS)


def test_unknown_fields_are_ignored() -> None:
    fields = json.loads((GOLDEN / "cancel.json").read_text()) | {"colour": "red"}
    assert parse_message(json.dumps(fields)) == parse_message((GOLDEN / "cancel.json").read_text())


@pytest.mark.parametrize(
    "payload",
    ['{"v":1,"type":"do_you_sing"}', '{"v":2,"type":"cancel","execution":"renamed"}', '{"v":99,"type":"x"}'],
)
def test_what_comes_from_the_future_is_dropped(payload: str) -> None:
    assert parse_message(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"cancel"',
        b'{"type":"cancel"}',
        b'{"v":1,"type":"cancel","cancel_id":7}',
        b'{"v":1,"type":"acks","at_us":"1","acks":[["one"]]}',
    ],
)
def test_what_is_no_message_is_refused_with_its_text(payload: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a message of version 1"):
        parse_message(payload)


def test_absent_reason_and_requester_are_null_on_the_wire() -> None:
    fields = json.loads((GOLDEN / "cancel.json").read_text()) | {"reason": None, "requested_by": None}
    message = parse_message(json.dumps(fields))
    assert isinstance(message, CancelMessage)
    assert (message.reason, message.requested_by) == (None, None)


def test_acks_read_as_acks_are_what_they_are_as_any_message() -> None:
    text = (GOLDEN / "acks.json").read_text()
    assert parse_acks(text) == parse_message(text)
    assert parse_acks((GOLDEN / "cancel.json").read_text()) is None
    assert parse_acks('{"v":2,"type":"acks","at_us":7}') is None
    assert parse_acks('{"v":1,"type":"acks_of_tomorrow"}') is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b'{"v":1,"at_us":"1"}',  # acks are all optional but for their time: what does not say its type is none
        b'{"v":1,"type":"acks"}',
        b'{"v":1,"type":"acks","at_us":"1","acks":[["one"]]}',
        b'{"v":1,"type":"acks","at_us":"1","acks":[["one",2]]}',
        b'{"v":1,"type":"acks","at_us":"1","acks":[["one","gone_fishing"]]}',
        b'{"v":1,"type":"acks","at_us":"1","settled":"c_1"}',
    ],
)
def test_what_are_no_acks_is_refused_with_its_text(payload: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a message of version 1"):
        parse_acks(payload)
