"""Ids and texts from outside: what is let in, what is refused, and that the refusal says what to do."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidId, InvalidInput
from broker.protocol.names import (
    CANCEL_TEXT_LIMIT,
    ID_LIMIT,
    MESSAGE_TEXT_LIMIT,
    check_id,
    check_worker_id,
    clean_text,
    lone_run,
    public_run,
)

ALPHABET = string.ascii_letters + string.digits + "._:@-"
ids = st.text(ALPHABET, min_size=1, max_size=ID_LIMIT).filter(lambda text: not text.startswith("@"))


@given(ids)
def test_a_well_formed_id_is_returned_unchanged(value: str) -> None:
    assert check_id(value, "run_id") == value


@given(st.text(max_size=250))
def test_the_grammar_is_exactly_the_documented_one(value: str) -> None:
    allowed = 1 <= len(value) <= 200 and value[0] != "@" and all(character in ALPHABET for character in value)
    try:
        check_id(value, "run_id")
    except InvalidId:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    "value",
    [
        *("", "@", "@run", "a b", "a\n", "\na", "a|b", "{a}", "a}", "a*", "a/b", "ä", "٣", "a\x00", "x" * 201),
        *(None, 7, 1.5, True, b"a", ["a"], {"a": 1}),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(InvalidId):
        check_id(value, "execution_id")


@pytest.mark.parametrize("value", ["a", "a@b", "-", ".", ":", "x" * 200, "550e8400-e29b-41d4-a716-446655440000"])
def test_the_edges_of_the_grammar_are_let_in(value: str) -> None:
    assert check_id(value, "execution_id") == value


def test_the_refusal_names_field_value_and_what_is_allowed() -> None:
    with pytest.raises(InvalidId) as refused:
        check_id("two words", "parent_execution_id")
    assert str(refused.value) == (
        "parent_execution_id: 'two words' is not an id: allowed are 1 to 200 characters of"
        " A-Z a-z 0-9 . _ : @ -, not beginning with @"
    )


@pytest.mark.parametrize("value", ["\n" * 1_000_000, b"x" * 1_000_000, ["x"] * 1_000_000, 10**5_000], ids=type)
def test_the_refusal_of_something_huge_is_short(value: object) -> None:
    with pytest.raises(InvalidId) as refused:
        check_id(value, "run_id")
    assert len(str(refused.value)) < 400


@given(ids)
def test_the_run_of_an_execution_without_a_run_is_never_shown_and_never_given_from_outside(value: str) -> None:
    assert lone_run(value) == f"@{value}"
    assert public_run(lone_run(value)) is None
    assert public_run(value) == value
    with pytest.raises(InvalidId):
        check_id(lone_run(value), "run_id")


def test_the_limits_are_those_of_the_wire() -> None:
    assert (ID_LIMIT, CANCEL_TEXT_LIMIT, MESSAGE_TEXT_LIMIT) == (200, 500, 120)


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        (None, None),
        ("", None),
        (" \t\n ", None),
        ("  user clicked cancel\n", "user clicked cancel"),
        ("a\tb\x1b[31m", "a\tb\x1b[31m"),
        ("half \ud800 pair", "half ? pair"),
        ("🛑" * 600, "🛑" * 500),
        (" " * 10 + "x" * 499 + "  y", "x" * 499),
    ],
)
def test_texts_are_trimmed_and_cut(given_text: str | None, kept: str | None) -> None:
    assert clean_text(given_text, "reason", CANCEL_TEXT_LIMIT) == kept


@given(st.text(st.characters(), max_size=300), st.integers(1, 200))
def test_a_cleaned_text_fits_and_cleaning_it_again_changes_nothing(text: str, limit: int) -> None:
    cleaned = clean_text(text, "reason", limit)
    assert clean_text(cleaned, "reason", limit) == cleaned
    if cleaned is not None:
        assert 1 <= len(cleaned) <= limit
        cleaned.encode("utf-8")


@pytest.mark.parametrize("value", [7, True, b"text", ["text"], {"text": 1}])
def test_a_text_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"^requested_by: .* is not a text"):
        clean_text(value, "requested_by", CANCEL_TEXT_LIMIT)


def test_a_worker_id_never_names_the_counter_of_another() -> None:
    assert check_worker_id("gpu-7:include") == "gpu-7:include"
    with pytest.raises(InvalidId, match="worker_id: 'gpu-7:inc' ends with :inc"):
        check_worker_id("gpu-7:inc")
    with pytest.raises(InvalidId):
        check_worker_id("")
